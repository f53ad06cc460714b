//! Says whether this machine has ublk, and which devices: number, state, server, size.

use rblk_ublk::{available, devices};
use std::process::ExitCode;

fn main() -> ExitCode {
    let features = match available() {
        Ok(features) => features,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    println!("features {:#x}", features.0);
    match devices() {
        Ok(devices) => {
            for device in devices {
                let (id, pid) = (device.id, device.server_pid);
                println!(
                    "/dev/ublkb{id} {:?} process {pid} {} sectors",
                    device.state, device.sectors
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
