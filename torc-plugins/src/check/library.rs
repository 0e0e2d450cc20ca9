//! What can be seen of a shared library without loading it.
//!
//! Owns: the reading of its ELF file. Does not know: who may load it, what it says of itself. Invariant: whatever the
//! file has in it, what is wrong with it comes out as words.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, Sym};
use torc_plugin::abi::{Descriptor, SYMBOL};

use super::Check;

/// What a file header begins with, as far as it says for which machine it is.
const BEGINNING: usize = 20;

/// What is looked at: which machine it is for, what it exports, and what it needs.
pub(super) fn checks(path: &Path, own: &Path) -> Vec<Check> {
    let machine = machine(path, own);
    let is_ours = machine.is_ok();
    let mut checks = vec![Check::of("machine", machine)];
    if is_ours {
        match inside(path) {
            Ok(Inside { symbol, needed }) => {
                checks.push(Check::of("symbol", symbol));
                checks.push(Check::of("needed libraries", needs(&needed)));
            }
            Err(fault) => checks.push(Check::failed("symbol", fault)),
        }
    }
    checks
}

/// For which machine the file is, if it is the one of torc's own file.
fn machine(path: &Path, own: &Path) -> Result<String, String> {
    let (found, ours) = (beginning(path)?, beginning(own)?);
    let words = |of: &[u8; BEGINNING]| format!("{} {}", bits(of[4]), processor(of));
    // The class, the order of bytes, and the machine.
    if found[4..6] != ours[4..6] || found[18..20] != ours[18..20] {
        return Err(format!("it is for {}, and this torc for {}", words(&found), words(&ours)));
    }
    Ok(words(&found))
}

fn beginning(path: &Path) -> Result<[u8; BEGINNING], String> {
    let mut bytes = [0; BEGINNING];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if bytes[..4] != elf::ELFMAG {
        return Err(format!("{} is no ELF file", path.display()));
    }
    Ok(bytes)
}

fn bits(class: u8) -> &'static str {
    match class {
        1 => "32-bit",
        2 => "64-bit",
        _ => "strange",
    }
}

fn processor(of: &[u8; BEGINNING]) -> String {
    let bytes = [of[18], of[19]];
    let number = if of[5] == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    match elf::Machine(number) {
        elf::EM_386 => "x86".to_owned(),
        elf::EM_X86_64 => "x86-64".to_owned(),
        elf::EM_ARM => "Arm".to_owned(),
        elf::EM_AARCH64 => "AArch64".to_owned(),
        elf::EM_PPC64 => "PowerPC".to_owned(),
        elf::EM_RISCV => "RISC-V".to_owned(),
        elf::EM_S390 => "s390".to_owned(),
        other => format!("machine {}", other.0),
    }
}

struct Inside {
    symbol: Result<String, String>,
    needed: Vec<String>,
}

fn inside(path: &Path) -> Result<Inside, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
    let read = match bytes.get(4) {
        Some(1) => read::<FileHeader32<Endianness>>(&bytes),
        _ => read::<FileHeader64<Endianness>>(&bytes),
    };
    read.map_err(|error| format!("it is damaged: {error}"))
}

fn read<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> object::Result<Inside> {
    let header = Elf::parse(bytes)?;
    let endian = header.endian()?;
    if header.e_type(endian) != elf::ET_DYN {
        let symbol = Err("it is no shared library; link it with -shared".to_owned());
        return Ok(Inside { symbol, needed: Vec::new() });
    }
    let sections = header.sections(endian, bytes)?;
    let mut needed = Vec::new();
    if let Some((entries, link)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, link)?;
        for entry in entries.iter().filter(|entry| entry.tag(endian) == elf::DT_NEEDED) {
            needed.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
        }
    }
    let symbols = sections.symbols(endian, bytes, elf::SHT_DYNSYM)?;
    let ours = symbols.iter().find(|symbol| {
        symbol.name(endian, symbols.strings()).is_ok_and(|name| name == SYMBOL.as_bytes())
    });
    let symbol = match ours {
        None => Err(format!("it does not export `{SYMBOL}`; see that the linker does not hide it")),
        Some(symbol) => described(
            symbol.is_undefined(endian),
            symbol.st_type(),
            symbol.st_visibility(),
            symbol.st_size(endian).into(),
        ),
    };
    Ok(Inside { symbol, needed })
}

/// What is said of the symbol.
fn described(
    is_undefined: bool,
    kind: elf::SymbolType,
    visibility: elf::SymbolVisibility,
    size: u64,
) -> Result<String, String> {
    let least = std::mem::offset_of!(Descriptor, info) as u64;
    if is_undefined {
        return Err(format!("it uses `{SYMBOL}`, and does not define it"));
    }
    if kind == elf::STT_FUNC {
        return Err(format!("`{SYMBOL}` is a function, and has to be an object"));
    }
    if kind != elf::STT_OBJECT {
        return Err(format!("`{SYMBOL}` is no object"));
    }
    if !matches!(visibility, elf::STV_DEFAULT | elf::STV_PROTECTED) {
        return Err(format!("`{SYMBOL}` is hidden"));
    }
    if size < least {
        return Err(format!("`{SYMBOL}` has {size} bytes, and version 1 has {least} at least"));
    }
    Ok(format!("`{SYMBOL}` is an object of {size} bytes"))
}

/// Two C libraries in one process do not work.
fn needs(needed: &[String]) -> Result<String, String> {
    let of_musl = |name: &&String| name.contains("musl");
    let of_glibc = |name: &&String| *name == "libc.so.6";
    let (other, words) = if cfg!(target_env = "musl") {
        (needed.iter().find(of_glibc), "glibc, and this torc is built with musl")
    } else {
        (needed.iter().find(of_musl), "musl, and this torc is built with glibc")
    };
    match other {
        Some(name) => Err(format!("it needs {name} of {words}")),
        None if needed.is_empty() => Ok("none".to_owned()),
        None => Ok(needed.join(", ")),
    }
}
