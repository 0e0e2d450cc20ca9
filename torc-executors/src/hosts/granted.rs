//! The hosts of an allocation, as whoever gave it lists them. Pure.

use torc_core::resources::NodeInventory;

/// A host of an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its name.
    pub name: Box<str>,
    /// How many of its CPUs the allocation has; `None`: all that a process there may use.
    pub cpus: Option<u32>,
}

/// A list that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantedError {
    /// It has nothing in it.
    #[error("it names no host")]
    Empty,
    /// A host has no name, or no number of CPUs after the colon.
    #[error("`{0}` is to be the name of a host, or a name, a colon and a number of CPUs from 1 on")]
    Entry(String),
    /// A host is there twice.
    #[error("it names {0} twice; the CPUs of a host are added up")]
    Twice(String),
}

impl Granted {
    /// Reads a list like `n1:8,n2:8`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(list: &str) -> Result<Vec<Self>, GrantedError> {
        let mut hosts: Vec<Self> = Vec::new();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let host = Self::entry(entry).ok_or_else(|| GrantedError::Entry(entry.to_owned()))?;
            if hosts.iter().any(|known| known.name == host.name) {
                return Err(GrantedError::Twice(host.name.into()));
            }
            hosts.push(host);
        }
        if hosts.is_empty() { Err(GrantedError::Empty) } else { Ok(hosts) }
    }

    fn entry(text: &str) -> Option<Self> {
        let (name, cpus) = match text.split_once(':') {
            None => (text, None),
            Some((name, cpus)) => (name, Some(cpus.parse().ok().filter(|cpus| *cpus > 0)?)),
        };
        // It is a part of the names of files, and of words of commands.
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let is_name = name.bytes().all(is_of_name) && !name.starts_with(['.', '-']);
        (is_name && !name.is_empty()).then(|| Self { name: name.into(), cpus })
    }

    /// What a host has that has not been looked at: the CPUs that were granted, numbered from 0, and nothing else.
    pub fn unseen(&self) -> NodeInventory {
        NodeInventory {
            name: self.name.clone(),
            cores: (0..self.cpus.unwrap_or(1)).collect(),
            threads_per_core: 1,
            slots: None,
            memory: 0,
            gpus: Box::default(),
        }
    }

    /// What is granted of a host that has this.
    pub fn of(&self, host: NodeInventory) -> NodeInventory {
        let cpus = self.cpus.map_or(usize::MAX, |cpus| cpus as usize);
        let cores = host.cores.iter().copied().take(cpus).collect();
        NodeInventory { name: self.name.clone(), cores, ..host }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let host = |name: &str, cpus| Granted { name: name.into(), cpus };
        assert_eq!(Granted::parse("n1"), Ok(vec![host("n1", None)]));
        let two = vec![host("n1.site", Some(8)), host("n-2", None)];
        assert_eq!(Granted::parse("n1.site:8, n-2,"), Ok(two));
    }

    #[test]
    fn what_is_no_list_is_named() {
        let error = |list: &str| Granted::parse(list).expect_err("is wrong");
        assert_eq!(error(" ,"), GrantedError::Empty);
        for entry in ["n1:0", "n1:", ":3", "n1:x", "n 1", "../n1", "-n1", "n1:1:2"] {
            assert_eq!(error(entry), GrantedError::Entry(entry.to_owned()));
        }
        assert_eq!(error("a,b,a:3"), GrantedError::Twice("a".to_owned()));
    }

    #[test]
    fn a_host_is_narrowed_to_what_was_granted() {
        let host = NodeInventory {
            name: "localhost".into(),
            cores: [2, 3, 5].into(),
            threads_per_core: 1,
            slots: None,
            memory: 7,
            gpus: ["0".into()].into(),
        };
        let cores = |list: &str| {
            let granted = Granted::parse(list).expect("is a list");
            let found = granted[0].of(host.clone());
            assert_eq!((&*found.name, found.memory, found.gpu_count()), ("n1", 7, 1));
            found.cores.to_vec()
        };
        assert_eq!(cores("n1"), [2, 3, 5]);
        assert_eq!(cores("n1:2"), [2, 3]);
        assert_eq!(cores("n1:8"), [2, 3, 5]);
        assert_eq!(Granted::parse("n1:2").expect("is a list")[0].unseen().cpus(), 2);
    }
}
