//! Small limits, with the relation of the real ones: each client's order finds room, and one more.

pub(crate) const CONTROL_CLIENTS_MAX: usize = 1;
pub(crate) const CONTROL_ORDERS_MAX: usize = CONTROL_CLIENTS_MAX + 1;
