//! Streams made by the `tar` crate and by hand, read back.

use super::*;

fn names(bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut reader = TarReader::new(bytes);
    let mut out = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(|e| e.to_string())? {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).map_err(|e| e.to_string())?;
        out.push(format!("{:?} {} {}", entry.kind, entry.name(), data.len()));
    }
    Ok(out)
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header
}

#[test]
fn long_names_and_all_kinds() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = "d/".repeat(120) + "file";
    builder.append_data(&mut header(EntryType::Regular, 3), &long, b"abc".as_slice()).expect("in memory");
    builder.append_link(&mut header(EntryType::Symlink, 0), "link", &long).expect("in memory");
    builder.append_data(&mut header(EntryType::Fifo, 0), "fifo", io::empty()).expect("in memory");
    let bytes = builder.into_inner().expect("in memory");
    let expected = [format!("File {long} 3"), "Symlink link 0".to_owned(), "Fifo fifo 0".to_owned()];
    assert_eq!(names(&bytes).expect("good"), expected);
    assert_eq!(names(&bytes[..bytes.len() - 1024]).expect("no end marker"), expected);
}

#[test]
fn damage_is_an_error() {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header(EntryType::Regular, 600), "file", [7u8; 600].as_slice()).expect("in memory");
    let good = builder.into_inner().expect("in memory");
    assert!(names(&good[..700]).is_err(), "cut in the data");
    assert!(names(&good[..100]).is_err(), "cut in the header");
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    assert!(names(&flipped).expect_err("checksum").contains("checksum"));
    assert_eq!(names(b"").expect("empty"), Vec::<String>::new());
}

/// E-07, E-08: of what is no tar at all no piece is shown; of a header that is broken nothing that a terminal cannot.
#[test]
fn e_07_e_08_what_is_no_tar_is_said_in_words() {
    for bytes in [b"7z\xbc\xaf\x27\x1c".repeat(100), vec![b'x'; 512], b"hi".to_vec()] {
        let refused = names(&bytes).expect_err("no tar");
        assert_eq!(refused, "it is no tar archive, neither plain nor compressed with gzip, bzip2, xz or zstd");
    }
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header(EntryType::Regular, 0), "file", io::empty()).expect("in memory");
    let mut bytes = builder.into_inner().expect("in memory");
    bytes.truncate(BLOCK);
    bytes.extend([0xff; BLOCK]);
    let refused = names(&bytes).expect_err("no header");
    assert!(refused.is_ascii() && refused.contains("not a tar header"), "{refused}");
}

#[test]
fn oversize_extension_headers_are_refused() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
        let mut header = header(kind, 1 << 40);
        header.set_path("huge").expect("short");
        header.set_cksum();
        let error = names(header.as_bytes()).expect_err("too large");
        assert!(error.contains("\"huge\"") && error.contains("at most"), "{error}");
    }
}

#[test]
fn sparse_pax_1_0() {
    let mut builder = tar::Builder::new(Vec::new());
    let records = [
        ("GNU.sparse.major", b"1".as_slice()),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"real"),
        ("GNU.sparse.realsize", b"1048576"),
    ];
    builder.append_pax_extensions(records).expect("in memory");
    let mut data = b"1\n1048000\n4\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"tail");
    builder
        .append_data(&mut header(EntryType::Regular, data.len() as u64), "fake", data.as_slice())
        .expect("in memory");
    let bytes = builder.into_inner().expect("in memory");
    let mut reader = TarReader::new(bytes.as_slice());
    let entry = reader.next_entry().expect("good").expect("one");
    assert_eq!((entry.name().as_str(), entry.size), ("real", 1_048_576));
    assert_eq!(entry.sparse, Some(vec![Segment { offset: 1_048_000, length: 4 }]));
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("data");
    assert_eq!(rest, b"tail");
}

#[test]
fn bad_sparse_maps_are_refused() {
    let segment = |offset, length| Segment { offset, length };
    assert!(sparse::check(&[segment(0, 4), segment(8, 4)], 12, 8).is_ok());
    assert!(sparse::check(&[segment(0, 4), segment(2, 4)], 12, 8).is_err(), "overlap");
    assert!(sparse::check(&[segment(8, 8)], 12, 8).is_err(), "beyond the end");
    assert!(sparse::check(&[segment(u64::MAX, 8)], 12, 8).is_err(), "overflow");
    assert!(sparse::check(&[segment(0, 4)], 12, 8).is_err(), "too few bytes");
}
