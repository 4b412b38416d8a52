//! Which instance takes the next call.
//!
//! [`Balancer`] is a state machine without clock, socket or randomness of its own. Whoever drives it hands in the time, as a
//! duration since any fixed moment, and the generator:
//!
//! ```text
//!   apply(instances, now)      the list as discovery sees it
//!   pick(context, now, rng)    an instance and a token, or why there is none
//!   answered(token, now)       the answer has begun: its latency is known
//!   done(token, outcome, now)  the call is over
//!   set_health(…)              what an active check found
//! ```
//!
//! A pick narrows the list in a fixed order, and [`NoInstance`] counts what each step took away:
//!
//! 1. an instance is enabled, up and speaks the scheme ([`Exclusion`]);
//! 2. it has the version and the labels that the call asks for ([`Selector`]); weight 0 counts only where all weights are 0;
//! 3. the caller's zone comes first, and what it cannot carry spills over (`zone`);
//! 4. a caller with a slot sees a part of the list only (`subset`);
//! 5. instances that a check found dead, or that calls found failing (`ejection`), stand aside, unless so many do that the
//!    fault is likelier to be the caller's: then ejection is ignored ("panic");
//! 6. a rule chooses (`rule`).
//!
//! Steps 1 to 4 depend on the list alone, so their result is kept (`group`) and costs a pick nothing.
//!
//! What is known of an instance lives in its `slot` and survives every change of the list that keeps its address and epoch.
//! A failed call never picks again by itself: the caller names what it has tried in [`Context::tried`] and asks once more. If nobody is
//! left then, it may ask for those that stand aside ([`Context::aside`]): a guess that was wrong must not fail a call.

mod balancer;
#[cfg(test)]
mod balancer_tests;
mod ejection;
mod error;
mod ewma;
mod group;
pub mod hash;
mod options;
mod outcome;
mod rule;
mod selector;
#[cfg(test)]
mod sim_tests;
mod slot;
mod subset;
mod zone;

pub use balancer::{Balancer, Context, Pick, Token};
pub use error::NoInstance;
pub use options::{Algorithm, EjectionOptions, Options};
pub use outcome::{Class, Outcome};
pub use selector::{Exclusion, Otherwise, Selector};
pub use slot::{Key, SlotView};
