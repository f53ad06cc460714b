//! The device that clients see: it exists while this node is Primary.

use super::{AttachOptions, FrontChoice};
use crate::error::{Error, Kind, Result};
use crate::front::nbd::Nbd;
use crate::front::nbd::listen::{Address, Listener};
use crate::front::ublk::{Lookout, Record, UblkFront, availability};
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

/// Makes the device, or takes over the one that a daemon before us left.
///
/// # Errors
/// The address is in use, or the kernel refuses.
pub(super) fn open(
    io: &mut Io,
    options: &AttachOptions,
    geometry: &Geometry,
) -> Result<Box<dyn Front>> {
    let name = options.config.name.as_str();
    let what = |how| format!("Cannot serve {name} by {how}");
    let address = match &options.front {
        FrontChoice::Ublk => {
            let made = match orphan(options)? {
                Some(id) => UblkFront::recover(io, id, *geometry),
                None => {
                    let record = record(options);
                    UblkFront::create(io, *geometry, Box::new(move |id| record.keep(id)))
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

/// The device of this resource that waits for a server.
///
/// # Errors
/// It has one, or the kernel does not say.
pub(super) fn orphan(options: &AttachOptions) -> Result<Option<u32>> {
    match options.front {
        FrontChoice::Ublk => record(options).orphan(),
        _ => Ok(None),
    }
}
