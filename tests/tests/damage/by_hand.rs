//! What an attacker would write.

use std::{io::Write, panic::catch_unwind};

use allocation_counter::measure;
use flate2::{Compression, write::GzEncoder};
use lopt_datasets::{cifar, idx, unpack};
use lopt_meta::Preset;
use lopt_tests::{
    Sealed,
    readers::{gzip, parsed, read_theta, small_idx, theta},
};
use safetensors::Dtype;

/// Asserts that `read` is an error with these words, without taking more than 16 MiB.
fn refused(
    what: &str,
    words: &str,
    read: impl Fn() -> Result<String, String> + std::panic::RefUnwindSafe,
) {
    let mut result = None;
    let taken = measure(|| result = catch_unwind(&read).ok());
    let result = result.unwrap_or_else(|| panic!("{what}: panicked"));
    let error = result.expect_err(what);
    assert!(error.contains(words), "{what}: {error}");
    assert!(
        taken.bytes_max < 16 << 20,
        "{what}: {} bytes",
        taken.bytes_max
    );
}

/// A safetensors file with this header.
fn safetensors(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header, &vec![0; data]].concat()
}

#[test]
fn safetensors_headers() {
    let tensor = |shape: &str, offsets: &str| {
        format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    let two = |first: &str, second: &str| {
        format!(
            "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{first}}},\
             \"b\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{second}}}}}"
        )
    };
    let header_of = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    let entry = |json: &str| safetensors(format!("{{\"__metadata__\":{{\"lopt\":{json}}}}}"), 0);
    for (what, bytes) in [
        ("no header", header_of(0)),
        ("a header beyond the file", header_of(3)),
        ("a header of 2⁶⁴ − 1 bytes", header_of(u64::MAX)),
        ("a header of 2⁶³ bytes", header_of(1 << 63)),
        ("a header of 100 MB", header_of(100_000_000)),
        (
            "a header that is not UTF-8",
            safetensors(b"{\"\xff\":{}}", 0),
        ),
        ("a header that is not JSON", safetensors("{\"a\":", 0)),
        ("a header that is a list", safetensors("[]", 0)),
        (
            "a header of lists in lists",
            safetensors("[".repeat(100_000), 0),
        ),
        (
            "objects in objects",
            safetensors("{\"a\":".repeat(100_000), 0),
        ),
        (
            "data beyond the file",
            safetensors(tensor("[2]", "[0,8]"), 4),
        ),
        (
            "data after the last tensor",
            safetensors(tensor("[1]", "[0,4]"), 8),
        ),
        (
            "an end before the start",
            safetensors(tensor("[1]", "[4,0]"), 4),
        ),
        ("a negative offset", safetensors(tensor("[1]", "[-4,0]"), 4)),
        ("a negative size", safetensors(tensor("[-1]", "[0,4]"), 4)),
        (
            "a size that is not whole",
            safetensors(tensor("[0.5]", "[0,4]"), 4),
        ),
        (
            "more elements than data",
            safetensors(tensor("[3]", "[0,8]"), 8),
        ),
        (
            "2⁶⁴ elements",
            safetensors(tensor("[4294967296,4294967296]", "[0,4]"), 4),
        ),
        (
            "2⁶² elements",
            safetensors(tensor("[4611686018427387904]", "[0,0]"), 0),
        ),
        (
            "a size of 2⁶⁵",
            safetensors(tensor("[36893488147419103232]", "[0,4]"), 4),
        ),
        (
            "tensors that overlap",
            safetensors(two("[0,4]", "[0,4]"), 4),
        ),
        (
            "tensors that overlap a little",
            safetensors(two("[0,4]", "[2,6]"), 6),
        ),
        (
            "a hole between tensors",
            safetensors(two("[0,4]", "[8,12]"), 12),
        ),
        (
            "a hole before the first",
            safetensors(tensor("[1]", "[4,8]"), 8),
        ),
        (
            "a type that does not exist",
            safetensors(
                "{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                4,
            ),
        ),
        (
            "a type of another size",
            safetensors(
                "{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                4,
            ),
        ),
        (
            "a name twice",
            safetensors(two("[0,4]", "[4,8]").replace("\"b\"", "\"a\""), 8),
        ),
        (
            "metadata that are a list",
            safetensors("{\"__metadata__\":[]}", 0),
        ),
        ("an entry that is not a string", entry("{}")),
        ("an entry that is not JSON", entry("\"{\"")),
        (
            "an entry of lists in lists",
            entry(&format!("\"{}\"", "[".repeat(100_000))),
        ),
        ("metadata only", entry("\"{}\"")),
    ] {
        refused(what, "safetensors file of kind `theta`", || {
            read_theta(&bytes)
        });
    }
}

/// Contents that lopt would not write, with a checksum that matches.
#[test]
fn forged_theta() {
    let original = Sealed::open(&theta());
    let forged = |change: fn(&mut Sealed)| {
        let mut forged = original.clone();
        change(&mut forged);
        forged.bytes()
    };
    let hidden = |sizes: &str| {
        let mut forged = original.clone();
        assert!(
            forged.description.contains("\"hidden\":[4,4]"),
            "{}",
            forged.description
        );
        forged.description = forged
            .description
            .replace("\"hidden\":[4,4]", &format!("\"hidden\":{sizes}"));
        forged.bytes()
    };
    let deep = |depth: usize| {
        let mut forged = original.clone();
        let lists = ["[".repeat(depth), "]".repeat(depth)].concat();
        forged.description = format!("{{\"provenance\":{lists}}}");
        forged.bytes()
    };
    for (what, words, bytes) in [
        (
            "NaN",
            "contains NaN or inf",
            forged(|f| f.tensors[0].data[..4].copy_from_slice(&f32::NAN.to_le_bytes())),
        ),
        (
            "inf",
            "contains NaN or inf",
            forged(|f| f.tensors[1].data[..4].copy_from_slice(&f32::INFINITY.to_le_bytes())),
        ),
        (
            "bytes for floats",
            "tensor `",
            forged(|f| {
                f.tensors[0].dtype = Dtype::U8;
                f.tensors[0].shape = vec![f.tensors[0].data.len()];
            }),
        ),
        ("no tensors", "requires", forged(|f| f.tensors.clear())),
        (
            "empty tensors",
            "requires",
            forged(|f| {
                f.tensors.iter_mut().for_each(|t| {
                    t.shape = vec![0, usize::MAX];
                    t.data.clear();
                })
            }),
        ),
        (
            "another shape",
            "requires",
            forged(|f| f.tensors[0].shape.push(1)),
        ),
        (
            "one tensor more",
            "requires",
            forged(|f| {
                let mut more = f.tensors[0].clone();
                more.name = "a".into();
                f.tensors.push(more);
            }),
        ),
        (
            "no optimizer",
            "does not name the optimizer",
            forged(|f| f.description = "{}".into()),
        ),
        (
            "a list for a description",
            "does not name the optimizer",
            forged(|f| f.description = "[]".into()),
        ),
        (
            "an unknown optimizer",
            "`../../star`",
            forged(|f| f.description = f.description.replace("\"star\"", "\"../../star\"")),
        ),
        ("lists in lists", "cannot be parsed", deep(200)),
        ("many lists in lists", "cannot be parsed", deep(100_000)),
        (
            "hidden layers of 2⁴⁰",
            "hidden layers",
            hidden("[1099511627776]"),
        ),
        (
            "hidden layers of 2⁶³",
            "hidden layers",
            hidden("[9223372036854775807,9223372036854775807]"),
        ),
        ("no hidden units", "hidden layers", hidden("[0]")),
        (
            "a hundred hidden layers",
            "hidden layers",
            hidden(&format!("[{}1]", "1,".repeat(99))),
        ),
    ] {
        refused(what, words, || read_theta(&bytes));
    }
}

#[test]
fn gzip_files() {
    let packed = gzip(&[7; 1000]);
    let read = |bytes: &[u8]| match unpack(bytes) {
        Ok(content) => Ok(format!("{} bytes", content.len())),
        Err(error) => Err(error.to_string()),
    };
    let with_end = |end: [u8; 4]| [&packed[..packed.len() - 4], &end].concat();
    let two = [&packed[..], &packed].concat();
    let mut stored = GzEncoder::new(vec![], Compression::none());
    stored.write_all(&[7; 1000]).unwrap();
    let mut longer = stored.finish().unwrap();
    // The length of the stored block, after a header of 10 bytes.
    longer[11..13].fill(0xff);
    for (what, words, bytes) in [
        ("a promise of 4 GiB", "corrupt", with_end([0xff; 4])),
        ("a promise of nothing", "corrupt", with_end([0; 4])),
        ("two members", "follow the end", two),
        ("a stored block beyond the file", "corrupt", longer),
        ("only the magic number", "truncated", vec![0x1f, 0x8b]),
        (
            "a name without an end",
            "truncated",
            [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0], &[b'a'; 100][..]].concat(),
        ),
        (
            "another method",
            "corrupt",
            [&[0x1f, 0x8b, 9], &packed[3..]].concat(),
        ),
    ] {
        refused(what, words, || read(&bytes));
    }
}

/// A gzip file that unpacks to more than a GiB takes 2 s and 1.5 GB: only on request.
#[test]
#[ignore = "takes more than a GiB of memory"]
fn a_gzip_bomb_is_not_unpacked() {
    let mut bomb = GzEncoder::new(vec![], Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..1025).for_each(|_| bomb.write_all(&zeros).unwrap());
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 2 << 20);
    let error = unpack(&bomb).unwrap_err().to_string();
    assert!(error.contains("more than 1073741824 bytes"), "{error}");
}

#[test]
fn idx_and_cifar_files() {
    let (images, labels) = small_idx();
    let read = |images: &[u8], labels: &[u8]| match idx::read(images, labels, 10) {
        Ok(split) => Ok(format!("{split:?}")),
        Err(error) => Err(error.to_string()),
    };
    let with = |bytes: &[u8], at: usize, words: &[u32]| {
        let mut bytes = bytes.to_vec();
        for (i, word) in words.iter().enumerate() {
            bytes[at + 4 * i..at + 4 * i + 4].copy_from_slice(&word.to_be_bytes());
        }
        bytes
    };
    for (what, words, images) in [
        (
            "2³² − 1 images",
            "4294967295",
            with(&images, 4, &[u32::MAX]),
        ),
        (
            "a product of 2⁹⁶",
            "4294967295",
            with(&images, 4, &[u32::MAX; 3]),
        ),
        (
            "a product of 2⁶⁴",
            "2147483648",
            with(&images, 4, &[1 << 31, 1 << 31, 4]),
        ),
        ("no images", "bytes follow", with(&images, 4, &[0])),
        (
            "images without pixels",
            "contains no images",
            with(&images, 4, &[20, 0, 3])[..16].to_vec(),
        ),
        ("one image more", "bytes follow", with(&images, 4, &[21])),
        ("labels for images", "starts with", labels.clone()),
        (
            "little-endian",
            "starts with",
            with(&images, 0, &[0x0308_0000]),
        ),
        (
            "images of 1×1",
            "images, but",
            with(&images, 4, &[240, 1, 1]),
        ),
    ] {
        refused(what, words, || read(&images, &labels));
    }
    let many = with(&labels, 4, &[u32::MAX]);
    refused("2³² − 1 labels", "4294967295", || read(&images, &many));
    let mut high = labels.clone();
    high[27] = 255;
    refused("the label 255", "label 255", || read(&images, &high));

    let rows = |bytes: &[u8]| {
        cifar::rows(bytes)
            .map(|n| n.to_string())
            .map_err(|e| e.to_string())
    };
    let long = vec![1; cifar::ROW + 1];
    refused("a row and a byte", "whole number of rows", || rows(&long));
    let wrong = vec![255; cifar::ROW];
    refused("a label of 255", "label 255", || rows(&wrong));
}

#[test]
fn configurations() {
    let quick = "extends = 'quick'\n";
    for (what, words, text) in [
        (
            "lists in lists",
            "TOML",
            format!("x = {}", "[".repeat(10_000)),
        ),
        (
            "tables in tables",
            "TOML",
            format!("x = {}", "{a=".repeat(10_000)),
        ),
        (
            "a long dotted key",
            "config.toml",
            format!("{}a = 1", "a.".repeat(10_000)),
        ),
        (
            "a long section",
            "config.toml",
            format!("[{}a]", "a.".repeat(10_000)),
        ),
        (
            "a key twice",
            "duplicate key",
            "seed = 1\nseed = 2".to_owned(),
        ),
        (
            "an integer of 2⁶⁴",
            "TOML",
            "seed = 18446744073709551616".to_owned(),
        ),
        ("a NUL", "TOML", "seed = \0".to_owned()),
        (
            "a preset that is a path",
            "must be a preset",
            "extends = '../../quick'".to_owned(),
        ),
        (
            "a preset that is a list",
            "must be a preset",
            "extends = [[]]".to_owned(),
        ),
        (
            "a list for a section",
            "config.toml",
            format!("{quick}outer = []"),
        ),
        (
            "an unknown section",
            "unknown field",
            format!("{quick}[shell]\ncommand = 'rm'"),
        ),
        (
            "an infinite number",
            "outer.learning-rate",
            format!("{quick}[outer]\nlearning-rate = inf"),
        ),
        (
            "an endless run",
            "config.toml",
            format!("{quick}[outer]\nsteps = -1"),
        ),
        (
            "a θ of 2⁴⁰",
            "hidden layers",
            format!("{quick}[optimizer.star]\nhidden = [1099511627776]"),
        ),
        (
            "a θ of 2¹²⁶",
            "hidden layers",
            format!("{quick}[optimizer.star]\nhidden = [{0}, {0}]", i64::MAX),
        ),
        (
            "an infinite θ",
            "last-layer-scale",
            format!("{quick}[optimizer]\nlast-layer-scale = 3e38\nstar = {{ hidden = [1] }}"),
        ),
    ] {
        refused(what, words, || parsed(&text, &[]));
    }
}

#[test]
fn overrides() {
    for (what, words, text) in [
        ("nothing", "key.path=value", String::new()),
        ("no key", "a key is missing", "=1".to_owned()),
        ("dots", "a key is missing", "..=1".to_owned()),
        (
            "a long key",
            "sections in one another",
            format!("{}a=1", "a.".repeat(50_000)),
        ),
        (
            "a long key of a section",
            "sections in one another",
            format!("outer{}=1", ".a".repeat(50_000)),
        ),
        (
            "lists in lists",
            "invalid type",
            format!("seed={}", "[".repeat(50_000)),
        ),
        ("a value for a section", "task", "task=1".to_owned()),
        ("two lines", "invalid type", "outer=1\nseed = 2".to_owned()),
        (
            "a section that closes",
            "invalid type",
            "seed=1\n[outer]".to_owned(),
        ),
        (
            "an integer of 2⁶⁴",
            "integers must be",
            "seed=18446744073709551616".to_owned(),
        ),
    ] {
        refused(what, words, || {
            parsed(Preset::Quick.text(), std::slice::from_ref(&text))
        });
    }
}
