//! DRBD's resource files: what is translated is a configuration, and what is not has a place.

use rblk::config::Config;
use rblk::error::Kind;
use rblk::import::{Files, import};
use std::path::Path;

/// The input, whatever file is asked for: what includes a file includes itself.
struct Input<'a>(&'a [u8]);

impl Files for Input<'_> {
    fn names(&mut self, _: &Path) -> Result<Vec<String>, String> {
        Ok(vec!["a.res".to_owned(), "b.res".to_owned()])
    }

    fn read(&mut self, _: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
        Ok(self.0[..self.0.len().min(bytes_max as usize)].to_vec())
    }
}

pub(crate) fn run(bytes: &[u8]) {
    match import(Path::new("a.res"), None, &mut Input(bytes)) {
        Ok(imported) => {
            let parsed = Config::parse(imported.toml.as_bytes(), Path::new("a.toml"), None);
            if let Err(error) = parsed {
                // Only what a later version can.
                assert_eq!(error.kind(), Kind::Unavailable, "{error}\n{}", imported.toml);
            }
            for note in imported.notes {
                assert!(note.place.line > 0 && note.place.column > 0, "{note}");
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            for problem in problems {
                assert!(problem.place.line > 0 && problem.place.column > 0, "{problem}");
            }
        }
    }
}
