//! A text of `KEY = "VALUE"` lines, of which every byte stays that is not changed on purpose.
//!
//! The grammar is that of VMware's dictionaries (open-vm-tools, lib/dict/dictll.c): a key has no blank, `=` or `#`, a value
//! stands in quotes or has no blank or `#`, and a comment begins with `#`.

use std::ops::Range;

/// The lines, each with its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(Vec<Vec<u8>>);

/// A line that gives a key a value.
#[derive(Debug)]
pub struct Pair<'a> {
    /// The number of the line, from 0.
    pub line: usize,
    /// The key as written; case does not matter.
    pub key: &'a [u8],
    /// The value without its quotes; none where the line is malformed.
    pub value: Option<&'a [u8]>,
    place: Range<usize>,
}

impl Text {
    /// Divides the text of a file.
    pub fn new(bytes: &[u8]) -> Text {
        Text(bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect())
    }

    /// The text of the file.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// The lines without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|line| content(line))
    }

    /// The lines that give a key a value.
    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        self.lines().enumerate().filter_map(|(number, line)| pair(number, line))
    }

    /// The value of a key; the first one where several lines give it.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.pairs().filter(|pair| pair.is(key)).find_map(|pair| pair.value)
    }

    /// Gives a key another value, in its line or in a new one behind the last that has a key.
    pub fn set(&mut self, key: &str, value: &str) {
        let found = self.pairs().find(|pair| pair.is(key) && pair.value.is_some());
        let found = found.map(|pair| (pair.line, pair.place));
        match found {
            Some((line, place)) => drop(self.0[line].splice(place, value.bytes())),
            None => {
                let behind = self.pairs().last().map_or(self.0.len(), |pair| pair.line + 1);
                self.insert(behind, [format!("{key} = \"{value}\"")]);
            }
        }
    }

    /// Puts lines before the line of this number.
    pub fn insert(&mut self, at: usize, lines: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        let end = self.end();
        let last = at.checked_sub(1).and_then(|before| self.0.get_mut(before));
        if let Some(last) = last.filter(|last| !last.ends_with(b"\n")) {
            last.extend(if last.ends_with(b"\r") { b"\n" } else { end });
        }
        let lines: Vec<_> = lines.into_iter().map(|line| [line.as_ref(), end].concat()).collect();
        self.0.splice(at..at, lines);
    }

    /// Puts lines behind all others.
    pub fn append(&mut self, lines: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        self.insert(self.0.len(), lines);
    }

    /// Takes away the lines of these numbers.
    pub fn remove(&mut self, lines: &[usize]) {
        let mut number = 0..;
        self.0.retain(|_| number.next().is_none_or(|number| !lines.contains(&number)));
    }

    /// Puts something else into a part of a line.
    pub fn splice(&mut self, line: usize, place: Range<usize>, text: &str) {
        self.0[line].splice(place, text.bytes());
    }

    /// How lines end here.
    fn end(&self) -> &'static [u8] {
        if self.0.first().is_some_and(|line| line.ends_with(b"\r\n")) { b"\r\n" } else { b"\n" }
    }
}

impl Pair<'_> {
    /// Whether its key is this one.
    pub fn is(&self, key: &str) -> bool {
        self.key.eq_ignore_ascii_case(key.as_bytes())
    }
}

/// A line without its end.
fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn pair(line: usize, text: &[u8]) -> Option<Pair<'_>> {
    let is_blank = |byte: u8| byte == b' ' || byte == b'\t';
    let skip = |from: usize, is_skipped: &dyn Fn(u8) -> bool| {
        text[from..].iter().position(|&byte| !is_skipped(byte)).map_or(text.len(), |count| from + count)
    };
    // A mark of UTF-8 at the beginning of the file.
    let start = if line == 0 && text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let start = skip(start, &is_blank);
    let end = skip(start, &|byte| !is_blank(byte) && byte != b'=' && byte != b'#');
    let equals = skip(end, &is_blank);
    if start == end || text.get(equals) != Some(&b'=') {
        return None;
    }
    let value = skip(equals + 1, &is_blank);
    let (place, rest) = if text.get(value) == Some(&b'"') {
        let place = value + 1..skip(value + 1, &|byte| byte != b'"');
        (place.clone(), text.get(place.end + 1..))
    } else {
        let place = value..skip(value, &|byte| !is_blank(byte) && byte != b'#');
        (place.clone(), text.get(place.end..))
    };
    let rest = rest.map(|rest| rest.trim_ascii_start());
    let is_right = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"#"));
    Some(Pair { line, key: &text[start..end], value: is_right.then(|| &text[place.clone()]), place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Option<(String, Option<String>)> {
        let text = Text::new(line.as_bytes());
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text.pairs().next().map(|pair| (string(pair.key), pair.value.map(string)))
    }

    #[test]
    fn pairs_of_vmware() {
        let pair = |key: &str, value: &str| Some((key.to_owned(), Some(value.to_owned())));
        assert_eq!(read("a.b = \"c d\"\n"), pair("a.b", "c d"));
        assert_eq!(read("\t a=c # d\r\n"), pair("a", "c"));
        assert_eq!(read("a=\"c#d\"#e"), pair("a", "c#d"));
        assert_eq!(read("a="), pair("a", ""));
        assert_eq!(read("\u{feff}.encoding = \"UTF-8\""), pair(".encoding", "UTF-8"));
        assert_eq!(read("a = \"c\n"), Some(("a".into(), None)), "a quote is missing");
        assert_eq!(read("a = \"c\" d"), Some(("a".into(), None)));
        for none in ["", "#a = \"c\"", "a b = c", "= c", "a", "a # = c"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn only_the_value_changes() {
        let mut text = Text::new(b"# x\r\n A =  \"1\" # y\r\nb=2\r\n\r\nlast");
        text.set("a", "10");
        text.set("B", "");
        text.set("c", "3");
        text.append(["d = \"4\"".to_owned()]);
        assert_eq!(text.bytes(), b"# x\r\n A =  \"10\" # y\r\nb=\r\nc = \"3\"\r\n\r\nlast\r\nd = \"4\"\r\n");
        text.remove(&[0, 4]);
        assert_eq!(text.bytes(), b" A =  \"10\" # y\r\nb=\r\nc = \"3\"\r\nlast\r\nd = \"4\"\r\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_not_changed_stays(lines in prop::collection::vec("[ -~\t\r\u{e4}]{0,20}", 0..20), key in "[a-z]{1,3}") {
            let bytes = lines.join("\n").into_bytes();
            let mut text = Text::new(&bytes);
            prop_assert_eq!(text.bytes(), bytes.clone());
            let value = text.value(&key).map(<[u8]>::to_vec);
            if let Some(value) = &value {
                text.set(&key, &String::from_utf8_lossy(value));
                prop_assert_eq!(text.bytes(), bytes);
            } else if text.pairs().all(|pair| !pair.is(&key)) {
                let before: Vec<_> = text.lines().map(<[u8]>::to_vec).collect();
                text.set(&key, "v");
                prop_assert_eq!(text.value(&key), Some(&b"v"[..]));
                let line = text.pairs().find(|pair| pair.is(&key)).expect("it was set").line;
                text.remove(&[line]);
                prop_assert_eq!(text.lines().map(<[u8]>::to_vec).collect::<Vec<_>>(), before);
            }
        }

        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = Text::new(&bytes);
            let _ = text.pairs().count();
            prop_assert_eq!(text.bytes(), bytes);
        }
    }
}
