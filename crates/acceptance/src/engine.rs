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

/// How the engines differ: the rows of this document's table begin so.
const DIFFERENCES: &str = include_str!("../../../docs/differences.md");

/// What is expected of the engine that is tested where the two differ. Each such case is a row of the
/// table in docs/differences.md, which begins with `what`.
pub fn by_engine<T>(what: &str, library: T, supervisor: T) -> T {
    assert!(DIFFERENCES.contains(&format!("\n| {what} |")), "{what}: docs/differences.md has no such row");
    match engine() {
        Engine::Library => library,
        Engine::Supervisor => supervisor,
    }
}
