//! One contract for everything that stands on `client::Kv`: the interface itself, and the registry on it.
//!
//! Each case is a function over a [`Ground`]: a store, and names in it that nobody else uses. The same cases run on the embedded
//! store, on three members of Catena and on three releases of the real etcd; a case's name is `<subject>::<chapter>::<fact>`. Cases
//! share one store of each kind and run side by side; those that break it ([`outage`], [`config_outage`]), and those that nobody may
//! compact meanwhile ([`config_order`]), have one of their own; those that kill its leader ([`leader`]) have three members of ours or of
//! the real one.

mod callers;
mod config;
mod config_api;
mod config_order;
mod config_outage;
mod config_sealed;
mod config_socket;
mod conflict;
mod cut;
mod discover;
mod fanout;
mod ground;
mod interop;
mod killed;
mod kv;
mod layouts;
mod leader;
mod nacos;
mod operators;
mod outage;
mod own_store;
mod register;
mod subject;
mod switch;

use std::{process::ExitCode, sync::Arc};

use framework::{leave_out, peers::Library};
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

use self::{ground::Ground, interop::Meeting, own_store::OwnStore, subject::Subject};

/// Cases wait far more than they compute.
const CASES_AT_ONCE: usize = 8;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(CASES_AT_ONCE);
    // Members in this process, and what cases leave to end by itself, outlive a case.
    let runtime = Arc::new(Runtime::new().expect("a runtime can be made"));
    let subjects = subject::all(&runtime);
    let chapters = [
        kv::CASES,
        register::CASES,
        conflict::CASES,
        layouts::CASES,
        discover::CASES,
        operators::CASES,
        cut::CASES,
        config::CASES,
        config_sealed::CASES,
        config_api::CASES,
        nacos::CASES,
    ];
    let mut trials = Vec::new();
    for subject in &subjects {
        let once: &[&[ground::Case]] = match subject.stands_for_its_kind() {
            true => &[fanout::CASES, killed::CASES, config_socket::CASES],
            false => &[],
        };
        let once = once.iter().copied();
        for (name, case) in chapters.iter().copied().chain(once).flatten() {
            let name = format!("{subject}::{name}");
            let subject = subject.clone();
            trials.push(Trial::test(name.clone(), move || {
                subject.run(&name, async |ground| case(&ground).await)
            }));
        }
        if subject.stands_for_its_kind() {
            trials.extend(
                Library::ALL
                    .into_iter()
                    .flat_map(|library| with(subject, library)),
            );
        }
        let own = match subject.stands_for_its_kind() {
            true => callers::CASES,
            false => &[],
        };
        let own = config_outage::CASES.iter().chain(own);
        for (name, case) in outage::CASES.iter().chain(own) {
            let name = format!("{subject}::{name}");
            let subject = subject.clone();
            trials.push(Trial::test(name.clone(), move || {
                subject.run_on_own(&name, async |store| case(store).await)
            }));
        }
        for (name, case) in config_order::CASES {
            let name = format!("{subject}::{name}");
            let subject = subject.clone();
            trials.push(Trial::test(name.clone(), move || {
                subject.run_on_own(&name, async |store| case(&store.ground()).await)
            }));
        }
    }
    for subject in subject::with_leaders(&runtime) {
        for (name, case) in leader::CASES {
            let name = format!("{subject}::{name}");
            let subject = subject.clone();
            trials.push(Trial::test(name.clone(), move || {
                subject.run_on_own(&name, async |store| case(store).await)
            }));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The stores end before the runtime that some of them live on.
    drop(subjects);
    conclusion.exit_code()
}

/// The cases with a program on a library of others.
fn with(subject: &Arc<Subject>, library: Library) -> impl Iterator<Item = Trial> {
    interop::CASES.iter().map(move |(name, case)| {
        let name = format!("{subject}::{name}::{library}");
        let subject = subject.clone();
        Trial::test(name.clone(), move || match library.program() {
            Ok(program) => subject.run(&name, async |ground| {
                case(&Meeting {
                    ground,
                    library,
                    program,
                })
                .await
            }),
            Err(missing) => {
                leave_out(&name, &missing).map_err(|error| format!("{error:#}"))?;
                Ok(())
            }
        })
    })
}

/// A table of cases, each named by its function.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$((
            concat!(module_path!(), "::", stringify!($name)),
            |ground| Box::pin($name(ground)),
        )),*]
    };
}
pub(crate) use cases;
