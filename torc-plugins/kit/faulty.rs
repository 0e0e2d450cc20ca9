//! A plugin that does what no plugin should: the tests see that torc survives it, and says whose fault it is.
//!
//! Which fault it has is its setting `fault`; without one it works.

use std::time::Duration;

use torc_plugin::{Call, Failure, Host, Interface, Level, Reply, Settings, torc_plugin};

/// Answers `plan` with a plan that runs `true`, unless it has a fault.
struct Faulty {
    fault: String,
    calls: u32,
}

impl Interface for Faulty {
    fn open(settings: Settings, host: Host) -> Result<Self, Failure> {
        let fault = settings.get("fault").and_then(|fault| fault.as_str()).unwrap_or_default();
        match fault {
            "open panics" => panic!("no opening today"),
            "open refuses" => return Err(Failure::Invalid("no such partition".to_owned())),
            _ => {}
        }
        host.log(Level::Info, "opened");
        Ok(Self { fault: fault.to_owned(), calls: 0 })
    }

    fn call(&mut self, method: &str, _: &[u8], call: Call) -> Result<Reply, Failure> {
        self.calls += 1;
        if method != "plan" {
            return Err(Failure::Unsupported);
        }
        let good = || br#"{"argv": ["true"], "more": 1}"#.to_vec();
        match &*self.fault {
            "panics" => panic!("a bug at call {}", self.calls),
            "panics once" if self.calls == 1 => panic!("a bug at call {}", self.calls),
            "hangs" => loop {
                std::thread::park();
            },
            "crashes" => std::process::abort(),
            "refuses" => Err(Failure::Invalid("a rank too many".to_owned())),
            "not now" => Err(Failure::Transient("ask again".to_owned())),
            "gives up" => Err(Failure::Fatal("the licence has ended".to_owned())),
            "garbage" => Ok(Reply::Now(b"\xff\xfe{".to_vec())),
            "another shape" => Ok(Reply::Now(br#"{"argv": 7}"#.to_vec())),
            "no program" => Ok(Reply::Now(br#"{"argv": []}"#.to_vec())),
            // The pages are never touched, so none is there.
            "1 GB" => Ok(Reply::Now(vec![0; 1 << 30])),
            "never" => {
                std::mem::forget(call.later());
                Ok(Reply::Later)
            }
            "lets go" => {
                drop(call.later());
                Ok(Reply::Later)
            }
            "later" => {
                let completion = call.later();
                std::thread::spawn(move || completion.complete(Ok(good())));
                Ok(Reply::Later)
            }
            "too late" => {
                let (completion, late) = (call.later(), Duration::from_millis(300));
                std::thread::spawn(move || {
                    std::thread::sleep(late);
                    completion.complete(Ok(good()))
                });
                Ok(Reply::Later)
            }
            _ => Ok(Reply::Now(good())),
        }
    }

    fn close(self, _: Duration) {
        assert!(self.fault != "close panics", "no closing today");
    }
}

torc_plugin! {
    name: "faulty",
    version: "0.1.0",
    info: r#"{"description": "does what no plugin should", "schema": {"type": "object", "properties": {"fault": {"type": "string"}}}}"#,
    interfaces: { raw launcher: Faulty }
}
