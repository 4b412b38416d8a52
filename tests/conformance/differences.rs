//! Where Catena differs from etcd on purpose.
//!
//! Cases look a difference up by its name through [`Session::differs`](crate::session::Session::differs); a name that is not in
//! the table is a mistake of the case.

/// One difference.
pub(crate) struct Difference {
    /// How cases name it.
    pub(crate) name: &'static str,
    /// What etcd does, what Catena does, and why.
    pub(crate) reason: &'static str,
}

/// All differences.
pub(crate) const TABLE: &[Difference] = &[Difference {
    name: "auth",
    reason: "auth is not built yet: its calls are Unimplemented, so that nobody believes a store protected that is not",
}];
