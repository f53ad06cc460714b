//! As much of the control protocol as the mailbox uses.

pub(crate) mod proto {
    use crate::error::Error;

    pub(crate) struct Request;

    #[derive(PartialEq, Eq, Debug)]
    pub(crate) enum Reply {
        Done,
        Gone,
    }

    impl From<Error> for Reply {
        fn from(_: Error) -> Reply {
            Reply::Gone
        }
    }
}

pub(crate) mod server {
    use super::proto::{Reply, Request};

    pub(crate) trait Handler {
        fn call(&self, request: Request) -> Reply;
    }
}
