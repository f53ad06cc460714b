//! Keeping signals away from a call that cannot take them.

/// While it lives, this thread takes no signals; those that come go to another thread or wait.
pub(crate) struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    /// Blocks all signals. libublk takes an interrupted wait for the end of its command.
    pub(crate) fn new() -> SignalsBlocked {
        // SAFETY: a signal set is plain memory, for which zeroes are valid; sigfillset writes only to
        // it.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        let mut before = all;
        // SAFETY: both sets outlive the calls.
        unsafe {
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        }
        SignalsBlocked(before)
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `self.0` is the mask that pthread_sigmask gave in `new`; no old mask is asked for.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}
