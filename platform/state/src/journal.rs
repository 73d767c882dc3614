//! A file that is only added to, until it is emptied.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::dir::{StateDir, StateError, failed};
use crate::native::{give, private, sync_directory};

/// How many characters of a record's digest precede it.
const DIGEST: usize = 16;

/// What was kept in a journal, line by line.
pub type Lines = Vec<Zeroizing<Vec<u8>>>;

/// Records, one a line, in the order in which they were added. After a crash or a power cut a record is there whole
/// or not at all: what was cut off at the end is left out and overwritten.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    directory: PathBuf,
    /// Opened when something is added.
    file: Option<File>,
    /// The bytes that are good; what follows is not.
    length: u64,
}

impl StateDir {
    /// Opens a journal and returns what it holds; there need not be one. Changes nothing.
    ///
    /// # Errors
    /// When it cannot be read, when others than its owner could have changed it, or when it is damaged: what a crash
    /// cuts off is the end, and no record follows it.
    pub fn journal(&self, name: &str) -> Result<(Journal, Lines), StateError> {
        let path = self.file(name)?;
        let content = self.read(name)?.unwrap_or_default();
        let (mut records, mut length, mut bad) = (Vec::new(), 0, None);
        for (number, line) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
            match (record(line), bad) {
                (Some(record), None) => {
                    records.push(Zeroizing::new(record.to_vec()));
                    length += line.len() as u64;
                }
                (Some(_), Some(line)) => return Err(StateError::Journal { path, line }),
                (None, _) => bad = bad.or(Some(number + 1)),
            }
        }
        let journal = Journal { path, directory: self.path().to_path_buf(), file: None, length };
        Ok((journal, records))
    }
}

/// The record of a line that is whole.
fn record(line: &[u8]) -> Option<&[u8]> {
    let (digest, rest) = line.strip_suffix(b"\n")?.split_at_checked(DIGEST)?;
    let record = rest.strip_prefix(b" ")?;
    (crate::fingerprint(record).as_bytes().get(..DIGEST) == Some(digest)).then_some(record)
}

impl Journal {
    /// Adds a record, which holds no line end, and returns when it would survive a power cut. On an error it is not
    /// there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, record: &[u8]) -> Result<(), StateError> {
        let mut line = Zeroizing::new(Vec::with_capacity(DIGEST + record.len() + 2));
        line.extend_from_slice(&crate::fingerprint(record).as_bytes()[..DIGEST]);
        line.push(b' ');
        line.extend_from_slice(record);
        line.push(b'\n');
        let result = self.write(&line);
        if result.is_err() {
            // Whatever of it was written is cut off when the file is opened again, or left out by whoever reads it.
            self.file = None;
        }
        result.map_err(|error| failed("write", &self.path, error))?;
        self.length += line.len() as u64;
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if line[..line.len() - 1].contains(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record holds a line end"));
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let open = private(OpenOptions::new().append(true).create(true)).open(&self.path)?;
                give(&open, &self.directory)?;
                open.set_len(self.length)?;
                sync_directory(&self.directory)?;
                self.file.insert(open)
            }
        };
        file.write_all(line)?;
        file.sync_data()
    }

    /// Removes all records, for good.
    ///
    /// # Errors
    /// When the file cannot be removed; then the records are still there.
    pub fn clear(&mut self) -> Result<(), StateError> {
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove", &self.path, error)),
            Ok(()) => sync_directory(&self.directory).map_err(|e| failed("save", &self.directory, e))?,
        }
        self.length = 0;
        Ok(())
    }

    /// How many bytes the records take.
    pub fn length(&self) -> u64 {
        self.length
    }
}
