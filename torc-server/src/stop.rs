//! The wish that this process end, which may come at any time and comes once.

use tokio::sync::watch;

/// Returns when somebody asks this process to end. Cancel safe.
pub(crate) async fn asked_to_end(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody can ask any more.
        std::future::pending::<()>().await;
    }
}
