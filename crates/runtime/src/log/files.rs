//! The files of a log: `path` is the newest, `path.1` the one before, and so on; one that is compressed has `.gz` behind
//! its name. A file keeps its identity when it is compressed, so that a reader knows it again.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    time::UNIX_EPOCH,
};

use flate2::{Compression, GzBuilder, read::GzDecoder};

const PACKED: &str = ".gz";

/// What the decoder says of bytes that are not what was written.
const DAMAGES: [io::ErrorKind; 3] =
    [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput, io::ErrorKind::UnexpectedEof];

/// Which file it is, under whatever name. Numbers of inodes are used again, so its birth belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    inode: u64,
    born_ns: u128,
}

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Self { inode: metadata.ino(), born_ns: born.unwrap_or_default().as_nanos() }
    }

    /// Of the file that was compressed into this one, which says so in its header; its own if that is not to be read.
    fn of_packed(file: &File) -> io::Result<Self> {
        let decoder = GzDecoder::new(file);
        let said = decoder.header().and_then(|header| header.comment()).unwrap_or_default();
        let known = std::str::from_utf8(said).ok().and_then(|text| text.parse().ok());
        known.map_or_else(|| Ok(Self::of(&file.metadata()?)), Ok)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.inode, self.born_ns)
    }
}

impl FromStr for Identity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (inode, born) = text.split_once(' ').ok_or(())?;
        Ok(Self { inode: inode.parse().map_err(drop)?, born_ns: born.parse().map_err(drop)? })
    }
}

/// One file of a log, open.
#[derive(Debug)]
pub(super) struct LogFile {
    pub id: Identity,
    file: File,
    /// Where it was found, if it is compressed.
    packed: Option<PathBuf>,
}

impl LogFile {
    /// One whose lines are there as they are.
    pub(super) fn opened(id: Identity, file: File) -> Self {
        Self { id, file, packed: None }
    }

    /// Its lines. Those of a compressed file are unpacked into one without a name, which goes with the descriptor: whoever
    /// reads needs to go back and forth in it. Of a damaged one there are the lines before the damage, which is said beside.
    pub(super) fn plain(self) -> io::Result<(File, Option<io::Error>)> {
        let Some(path) = self.packed else { return Ok((self.file, None)) };
        let unpack = || {
            let mut plain = nameless(&path)?;
            let mut packed = self.file;
            packed.rewind()?;
            let damage = match io::copy(&mut GzDecoder::new(io::BufReader::new(packed)), &mut plain) {
                Ok(_) => None,
                Err(err) if DAMAGES.contains(&err.kind()) => {
                    let path = path.display();
                    let text = format!("{path} is damaged ({err}): its lines from there on are left out");
                    Some(io::Error::new(err.kind(), text))
                }
                Err(err) => return Err(err),
            };
            plain.rewind()?;
            Ok((plain, damage))
        };
        unpack()
            .map_err(|err: io::Error| io::Error::new(err.kind(), format!("cannot unpack {}: {err}", path.display())))
    }
}

/// A file that nobody else finds, beside `path`.
fn nameless(path: &Path) -> io::Result<File> {
    let directory = path.parent().unwrap_or(path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options.clone().custom_flags(libc::O_TMPFILE).open(directory).or_else(|_| {
        // a file system without such files
        let name = with_suffix(path, &format!(".{}", std::process::id()));
        let file = options.create_new(true).open(&name)?;
        fs::remove_file(name)?;
        Ok(file)
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The file that is `age` rotations old.
pub(super) fn aged(path: &Path, age: u32) -> PathBuf {
    if age == 0 { path.to_owned() } else { with_suffix(path, &format!(".{age}")) }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// Opens the file of one age, if there is one. A compressed one takes its place before the other goes.
pub(super) fn open_at(path: &Path, age: u32) -> io::Result<Option<LogFile>> {
    let plain = aged(path, age);
    if let Some(file) = found(File::open(&plain))? {
        return Ok(Some(LogFile { id: Identity::of(&file.metadata()?), file, packed: None }));
    }
    let packed = with_suffix(&plain, PACKED);
    let Some(file) = found(File::open(&packed))? else { return Ok(None) };
    Ok(Some(LogFile { id: Identity::of_packed(&file)?, file, packed: Some(packed) }))
}

/// Opens every file of a log, oldest first. The writer may rotate meanwhile: files only grow older,
/// so looking from the newest to the oldest meets each at least once.
pub(super) fn open_all(path: &Path, max_files: u32) -> io::Result<Vec<LogFile>> {
    let mut files: Vec<LogFile> = Vec::new();
    for age in 0..max_files.max(1) {
        if let Some(file) = open_at(path, age)?
            && files.iter().all(|known| known.id != file.id)
        {
            files.push(file);
        }
    }
    files.reverse();
    Ok(files)
}

/// How old a file of the log is now; `None` if it has been thrown away.
pub(super) fn age_of(id: Identity, path: &Path, max_files: u32) -> io::Result<Option<u32>> {
    for age in 0..max_files.max(1) {
        if open_at(path, age)?.is_some_and(|file| file.id == id) {
            return Ok(Some(age));
        }
    }
    Ok(None)
}

/// Makes room for a new file at `path`: the oldest goes, the others grow older by one. After a
/// crash in the middle an age is missing for a moment; the next rotation closes the gap.
pub(super) fn rotate(path: &Path, max_files: u32) -> io::Result<()> {
    if max_files <= 1 {
        return found(fs::remove_file(path)).map(drop);
    }
    let both = |age| [aged(path, age), with_suffix(&aged(path, age), PACKED)];
    for gone in both(max_files - 1) {
        found(fs::remove_file(gone))?;
    }
    for age in (0..max_files - 1).rev() {
        for (from, to) in both(age).into_iter().zip(both(age + 1)) {
            found(fs::rename(from, to))?;
        }
    }
    Ok(())
}

/// Compresses the file that was rotated last, if it is not yet. Interrupted, it leaves the file as it was.
pub(super) fn pack(path: &Path) -> io::Result<()> {
    let plain = aged(path, 1);
    let Some(mut source) = found(File::open(&plain))? else { return Ok(()) };
    let (packed, unfinished) = (with_suffix(&plain, PACKED), with_suffix(&plain, ".gz.new"));
    let mut work = || {
        let target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&unfinished)?;
        let id = Identity::of(&source.metadata()?);
        let mut encoder = GzBuilder::new().comment(id.to_string()).write(target, Compression::default());
        let mut block = vec![0; 64 * 1024];
        loop {
            match source.read(&mut block)? {
                0 => break,
                length => encoder.write_all(&block[..length])?,
            }
        }
        encoder.finish()?;
        fs::rename(&unfinished, &packed)?;
        fs::remove_file(&plain)
    };
    work().map_err(|err| {
        fs::remove_file(&unfinished).ok();
        io::Error::new(err.kind(), format!("cannot compress {}: {err}", plain.display()))
    })
}
