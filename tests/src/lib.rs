//! End-to-end tests of torc: the harness that the tests in `tests/` share.
