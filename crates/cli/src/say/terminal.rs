//! What people read on a terminal: lines and tables that are no wider than it.

use std::io::{self, IsTerminal};

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use rustix::termios::tcgetwinsize;

use crate::say::colour::{TITLE, styled};

/// A sentence in a column has at least this width where it has more than that, and so has a path that is shortened.
const TEXT: usize = 16;

/// What stands for the middle of a path that is too long.
const GAP: &str = "...";

/// How many columns the terminal has that the standard output is; none where it is no terminal.
fn width() -> Option<usize> {
    let out = io::stdout();
    let width = tcgetwinsize(&out).ok().filter(|_| out.is_terminal())?.ws_col;
    (width > 0).then_some(width.into())
}

/// Rows under titles as a table, whatever the width of the terminal.
pub fn grid<const N: usize>(titles: [&str; N], rows: impl IntoIterator<Item: Into<Row>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(titles).add_rows(rows);
    table
}

/// Rows under titles as a table, and elsewhere than on a terminal a line each, for grep(1) and its kin. On a terminal the first
/// `whole` columns stay as they are; in the others lines are broken at blanks, and paths are shortened where there is no room for them.
/// Where that does not help, each row is a line followed by one for each other cell. `style` colours what follows a title.
pub fn table<const N: usize>(
    titles: [&str; N],
    rows: &[[String; N]],
    whole: usize,
    style: impl Fn(&str) -> String,
) -> String {
    let mut table = grid(titles, rows);
    let widest = |line: &str| line.chars().count();
    let natural = table.lines().map(|line| widest(&line)).max().unwrap_or(0);
    if let Some(width) = width().filter(|&width| width < natural) {
        // How wide a column must be where paths have at most this width.
        let least = |column: usize, path: usize| {
            let cells = rows.iter().map(|row| row[column].as_str()).chain([titles[column]]);
            let of_word = |word: &str| if word.contains('/') { widest(word).min(path) } else { widest(word) };
            let of_cell = |cell: &str| {
                let words = cell.split(' ').map(of_word).max().unwrap_or(0);
                if column < whole { widest(cell) } else { words.max(widest(cell).min(TEXT)) }
            };
            cells.map(of_cell).max().unwrap_or(0)
        };
        let all = |path: usize| (0..N).map(|column| least(column, path)).collect::<Vec<_>>();
        // Each column has a line and two blanks.
        let fits = |path: &usize| all(*path).iter().sum::<usize>() + 3 * N < width;
        let Some(path) = [natural].into_iter().chain((TEXT..width).rev()).find(fits) else {
            return rows.iter().map(|row| facts(titles, row, whole, width, &style)).collect();
        };
        let least = all(path);
        let shortened = rows.iter().map(|row| {
            let mut row = row.clone();
            for cell in &mut row[whole..] {
                *cell = cell.split(' ').map(|word| shortened(word, path)).collect::<Vec<_>>().join(" ");
            }
            row
        });
        table = grid(titles, shortened);
        let columns = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns(width));
        for (column, least) in table.column_iter_mut().zip(least) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(columns(least + 2))));
        }
    }
    let text = table.to_string();
    let (title, rows) = text.split_once('\n').unwrap_or((&text, ""));
    let rows = rows.lines().map(|row| row.split("| ").map(&style).collect::<Vec<_>>().join("| ") + "\n");
    styled(title, TITLE) + "\n" + &rows.collect::<String>()
}

/// A row without a table.
fn facts<const N: usize>(
    titles: [&str; N],
    row: &[String; N],
    whole: usize,
    width: usize,
    style: &impl Fn(&str) -> String,
) -> String {
    let others = titles.iter().zip(row).enumerate().skip(1).filter(|(_, (_, cell))| !cell.is_empty());
    let others = others.map(|(column, (title, cell))| {
        let line = format!("  {}: {}\n", title.to_lowercase(), style(cell));
        if column < whole { line } else { wrap(&line, width) }
    });
    format!("{}\n{}", styled(&row[0], TITLE), others.collect::<String>())
}

/// Lines that are no longer than the terminal is wide, as far as blanks allow it; elsewhere as they are.
pub fn wrapped(text: &str) -> String {
    width().map_or_else(
        || text.to_owned(),
        |width| text.split_inclusive('\n').map(|line| wrap(line, width)).collect(),
    )
}

/// A word that is a path, without its middle where it is wider than this. Its end says more than its beginning; the name of the file
/// stays whole where there is room for it.
fn shortened(word: &str, width: usize) -> String {
    let letters: Vec<char> = word.chars().collect();
    if letters.len() <= width || width < TEXT || !word.contains('/') || word.contains('\x1b') {
        return word.to_owned();
    }
    let room = width - GAP.len();
    let name = letters.iter().rev().take_while(|letter| **letter != '/').count() + 1;
    let end = (room * 2 / 3).max(name).min(room);
    let (begin, end) = (&letters[..room - end], &letters[letters.len() - end..]);
    format!("{}{GAP}{}", String::from_iter(begin), String::from_iter(end))
}

/// Breaks a line. It goes on below its last column, which two blanks separate, or a little indented; a command that can be pasted stays
/// in one piece, and a path that is wider than a line is shortened.
fn wrap(line: &str, width: usize) -> String {
    let text = line.trim_start();
    let is_example = line.len() - text.len() <= 4
        && ["vmware-bdwrapper ", "sudo vmware-bdwrapper "].iter().any(|start| text.starts_with(start));
    if is_example || visible(line) <= width {
        return line.to_owned();
    }
    let column = line.rfind("  ").map_or(2, |end| visible(&line[..end + 2]));
    let indent = if column * 2 > width { 2 } else { column };
    let (mut broken, mut at) = (String::new(), 0);
    for piece in pieces(line) {
        let bare = piece.trim_end();
        let is_word = !bare.contains([' ', '\'']);
        let path = if is_word { shortened(bare, width.saturating_sub(indent)) } else { bare.to_owned() };
        let piece = &(path + &piece[bare.len()..]);
        let length = visible(piece.trim_end());
        if at + length > width && at > indent {
            broken.truncate(broken.trim_end_matches(' ').len());
            broken += &format!("\n{:indent$}", "");
            at = indent;
        }
        broken += piece;
        at += visible(piece);
    }
    broken
}

/// The words of a line, each with the blanks behind it; those between apostrophes are one, and so is a command at the end of a line.
fn pieces(line: &str) -> Vec<&str> {
    let (mut pieces, mut start, mut quoted, mut is_first) = (Vec::new(), 0, false, true);
    let mut words = line.split_inclusive(' ').peekable();
    let mut end = 0;
    while let Some(word) = words.next() {
        end += word.len();
        let bare = word.trim_end().trim_end_matches(['.', ',', ':', ';', ')']);
        quoted |= word.trim_start_matches('(').starts_with('\'');
        quoted &= !(bare.len() > 1 && bare.ends_with('\''));
        let before = line[..start].trim_end();
        quoted |= word.trim_end() == "vmware-bdwrapper" && before.ends_with(':') && before != "Usage:";
        is_first &= word == " ";
        // The blanks of a column belong to what stands before them.
        if quoted || is_first || words.peek() == Some(&" ") {
            continue;
        }
        pieces.push(&line[start..end]);
        start = end;
    }
    if start < line.len() {
        pieces.push(&line[start..]);
    }
    pieces
}

/// How many columns a text has without what only changes its colour.
fn visible(text: &str) -> usize {
    let mut is_escape = false;
    let is_shown = |letter: &char| {
        let starts = *letter == '\x1b';
        let shown = !is_escape && !starts && *letter != '\n';
        is_escape = (is_escape || starts) && *letter != 'm';
        shown
    };
    text.chars().filter(is_shown).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_one_piece() {
        assert_eq!(wrap("a b c\n", 5), "a b c\n");
        assert_eq!(wrap("a b cd\n", 5), "a b\n  cd\n");
        assert_eq!(
            wrap("no: run 'chown me x y', or that's it.\n", 12),
            "no: run\n  'chown me x y',\n  or that's\n  it.\n"
        );
        let start = "Ready. Start it: vmware-bdwrapper run -- a\n";
        assert_eq!(wrap(start, 12), "Ready. Start\n  it:\n  vmware-bdwrapper run -- a\n");
        assert_eq!(
            wrap("  vmware-bdwrapper probe --device x\n", 12),
            "  vmware-bdwrapper probe --device x\n"
        );
    }

    #[test]
    fn paths() {
        let path = "/srv/images/of/virtual/machines/disk.img";
        assert_eq!(shortened(path, 40), path);
        assert_eq!(shortened(path, 24), "/srv/im...hines/disk.img");
        assert_eq!(
            wrap(&format!("problem: {path}: is used.\n"), 24),
            "problem:\n  /srv/im...es/disk.img:\n  is used.\n"
        );
        assert_eq!(shortened("/srv/images/the-name-of-a-file", 24), "/s.../the-name-of-a-file");
        let quoted = format!("run 'rm {path}'\n");
        assert_eq!(wrap(&quoted, 24), format!("run\n  'rm {path}'\n"));
    }

    #[test]
    fn columns_and_colours() {
        let help = "  -d, --device  A device or so\n";
        assert_eq!(wrap(help, 40), help);
        assert_eq!(wrap(help, 26), "  -d, --device  A device\n  or so\n");
        assert_eq!(wrap(help, 32), help);
        assert_eq!(wrap("  -d  A device or so\n", 12), "  -d  A\n      device\n      or so\n");
        assert_eq!(wrap("\x1b[1mab\x1b[0m cd\n", 5), "\x1b[1mab\x1b[0m cd\n");
        assert_eq!(wrap("\x1b[1mab\x1b[0m cd\n", 4), "\x1b[1mab\x1b[0m\n  cd\n");
    }
}
