//! The device that clients see: it exists while this node is Primary.

use super::{AttachOptions, FrontChoice, inherit};
use crate::error::{Error, Kind, Result};
use crate::front::nbd::Nbd;
use crate::front::nbd::listen::{Address, Listener};
use crate::front::ublk::{Left, Lookout, Record, UblkFront, availability};
use crate::front::{Front, Geometry};
use crate::io::Io;
use crate::io::ring::Waker;
use crate::replica::Snapshot;

/// What clients see of the volume as it is now.
pub(super) fn geometry(snapshot: &Snapshot) -> Geometry {
    Geometry {
        sectors: snapshot.sectors,
        block_bytes: snapshot.block_bytes,
        discard: snapshot.discard,
    }
}

/// Checks before anything is opened that this kind of device can be had.
///
/// # Errors
/// The kernel has no ublk; the message names the other way.
pub(super) fn check(options: &AttachOptions) -> Result<()> {
    let name = &options.config.name;
    let nbd = |error| Error::io(format!("Cannot serve {name} by NBD"), error);
    match &options.front {
        FrontChoice::Ublk => {}
        // Bound and let go again: better to learn now than when this node becomes Primary.
        FrontChoice::NbdUnix(path) => {
            return Listener::bind(&Address::Unix(path.clone())).map(drop).map_err(nbd);
        }
        FrontChoice::NbdTcp(to) => {
            return Listener::bind(&Address::Tcp(*to)).map(drop).map_err(nbd);
        }
    }
    match availability() {
        Ok(()) => Ok(()),
        Err(error) => {
            Err(Error::new(Kind::Unavailable, format!("Cannot attach {name} as a ublk device"))
                .source(error)
                .remedy("run `modprobe ublk_drv`, or add --front nbd=unix:PATH to serve it by NBD"))
        }
    }
}

/// Makes the device, or takes over the one that a daemon before us left, if its clients know the data as it is.
///
/// # Errors
/// The address is in use, or the kernel refuses.
pub(super) fn open(
    io: &mut Io,
    options: &AttachOptions,
    snapshot: &Snapshot,
) -> Result<Box<dyn Front>> {
    let geometry = &geometry(snapshot);
    let data = inherit::name_of(snapshot.superblock.current);
    let name = options.config.name.as_str();
    let what = |how| format!("Cannot serve {name} by {how}");
    let address = match &options.front {
        FrontChoice::Ublk => {
            let made = match record(options).orphan()? {
                Some(left) if !inherit::is_known(&left, &snapshot.superblock) => {
                    let path = format!("/dev/ublkb{}", left.id);
                    return Err(Error::new(Kind::Refused, what("ublk"))
                        .why(format!("{path} waits with clients that know other data"))
                        .remedy(format!(
                            "unmount what is mounted there and end its users: `fuser -vm {path}`"
                        )));
                }
                // Without its peer a node does not know which blocks both disks can do.
                Some(left) => {
                    let block_bytes = geometry.block_bytes.max(left.block_bytes);
                    UblkFront::recover(io, left.id, Geometry { block_bytes, ..*geometry })
                }
                None => {
                    let (record, block_bytes) = (record(options), geometry.block_bytes);
                    let keep = move |id| record.keep(&Left { id, data, block_bytes });
                    UblkFront::create(io, *geometry, Box::new(keep))
                }
            };
            let front = made.map_err(|error| Error::io(what("ublk"), error))?;
            return Ok(Box::new(front));
        }
        FrontChoice::NbdUnix(path) => Address::Unix(path.clone()),
        FrontChoice::NbdTcp(address) => Address::Tcp(*address),
    };
    let nbd =
        Nbd::start(io, &address, name, geometry).map_err(|error| Error::io(what("NBD"), error))?;
    Ok(Box::new(nbd))
}

/// Starts what finds out who has this resource's device open, if there may be one.
///
/// # Errors
/// The system does not allow it.
pub(super) fn lookout(options: &AttachOptions, waker: Waker) -> Result<Option<Lookout>> {
    let needed = options.front == FrontChoice::Ublk || record(options).is_kept();
    needed.then(|| Lookout::start(waker)).transpose()
}

/// Where the number of this resource's device is kept.
pub(super) fn record(options: &AttachOptions) -> Record {
    Record::new(&options.run_dir, options.config.name.as_str())
}
