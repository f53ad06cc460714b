//! As much of the error as the mailbox uses.

pub(crate) enum Kind {
    NotRunning,
}

pub(crate) struct Error;

impl Error {
    pub(crate) fn new(_: Kind, _: &str) -> Error {
        Error
    }

    pub(crate) fn why(self, _: &str) -> Error {
        self
    }

    pub(crate) fn remedy(self, _: &str) -> Error {
        self
    }
}
