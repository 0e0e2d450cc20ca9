//! torc-server
