//! Configuration files: what is accepted means the same after it was printed, and what is not has a reason.

use rblk::config::Config;
use std::path::Path;

pub(crate) fn run(bytes: &[u8]) {
    let file = Path::new("swarm.toml");
    let config = match Config::parse(bytes, file, None) {
        Ok(config) => config,
        Err(error) => {
            assert!(error.to_string().contains("swarm.toml"), "{error}");
            return;
        }
    };
    let text = config.to_toml().expect("what was read can be printed");
    match Config::parse(text.as_bytes(), file, Some(&config.name)) {
        Ok(again) => assert_eq!(again, config, "{text}"),
        Err(error) => panic!("what `rblk config` prints is refused: {error}\n{text}"),
    }
    assert_eq!(config.to_toml().ok(), Some(text));
}
