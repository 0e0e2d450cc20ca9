//! torc-plugins
