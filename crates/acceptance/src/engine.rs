//! Which engine a test program tests.

use std::sync::OnceLock;

/// The command, beside the library.
pub(crate) const COMMAND: &str = "vmware-bdwrapper";

/// What answers in the programs that list devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The preload library.
    Library,
    /// The supervisor.
    Supervisor,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();

/// The variable of the environment that has any test program test the supervisor, if it is `supervisor`.
pub(crate) const VARIABLE: &str = "BDWRAPPER_TEST_ENGINE";

/// The engine that this test program tests.
pub fn engine() -> Engine {
    *ENGINE.get_or_init(|| match std::env::var_os(VARIABLE) {
        Some(name) if name == "supervisor" => Engine::Supervisor,
        _ => Engine::Library,
    })
}

/// Chooses the engine, before any trial runs.
pub fn test_engine(engine: Engine) {
    assert_eq!(*ENGINE.get_or_init(|| engine), engine, "another engine is tested already");
}
