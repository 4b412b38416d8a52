//! What is found out while the settings are read and can only be logged once they are in force.

use tracing::{info, warn};

/// One such line. The texts are etcd's where etcd has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A flag was given by an earlier name.
    Renamed { flag: &'static str, now: String },
    /// A flag has no meaning any more.
    Gone { flag: &'static str },
    /// A flag is accepted but changes nothing.
    Tuning { flag: String, why: &'static str },
    /// A variable was used.
    VariableUsed { variable: String },
    /// A variable looks like one of ours and is none.
    VariableUnknown { variable: String },
    /// A key of the configuration file is unknown.
    KeyUnknown { key: String },
    /// All settings come from a file.
    ConfigFile { path: String },
    /// HTTP and gRPC share their port.
    SinglePort,
    /// The member has no name of its own.
    DefaultName,
    /// The data directory is named after the member.
    DefaultDataDir { data_dir: String },
    /// An advertised host was taken from the default route.
    DefaultHost { host: String },
    /// There is no default route to take it from.
    NoDefaultHost,
}

impl Notice {
    /// Writes the line.
    pub(crate) fn log(&self) {
        match self {
            Notice::Renamed { flag, now } => {
                warn!(flag_name = flag, current = now, "flag has another name now");
            }
            Notice::Gone { flag } => {
                warn!(flag_name = flag, "flag is no longer supported - ignoring");
            }
            Notice::Tuning { flag, why } => {
                warn!(
                    flag_name = flag,
                    reason = why,
                    "flag has no effect - ignoring"
                );
            }
            Notice::VariableUsed { variable } => {
                info!(
                    variable_name = variable,
                    "recognized and used environment variable"
                );
            }
            Notice::VariableUnknown { variable } => {
                warn!(
                    environment_variable = variable,
                    "unrecognized environment variable"
                );
            }
            Notice::KeyUnknown { key } => {
                warn!(key, "unrecognized key in configuration file - ignoring");
            }
            Notice::ConfigFile { path } => info!(
                path,
                "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided"
            ),
            Notice::SinglePort => warn!(
                "Running http and grpc server on single port. This is not recommended for production."
            ),
            Notice::DefaultName => warn!(
                name = "default",
                "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members have the same default name"
            ),
            Notice::DefaultDataDir { data_dir } => {
                warn!(data_dir = data_dir, "'data-dir' was empty; using default");
            }
            Notice::DefaultHost { host } => info!(host, "detected default host for advertise"),
            Notice::NoDefaultHost => info!("failed to detect default host"),
        }
    }
}
