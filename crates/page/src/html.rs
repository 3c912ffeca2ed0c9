//! Writes a page as HTML.

use std::fmt::Write;

use serde_json::json;

use crate::{Block, Page, Section, Table, figure};

const CHART_JS: &str = include_str!("../assets/chart.umd.min.js");
const LICENSE: &str = include_str!("../assets/chart.umd.min.js.LICENSE");
const SCRIPT: &str = include_str!("../assets/page.js");
const STYLE: &str = include_str!("../assets/page.css");

/// What browsers let the page do: nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'";

pub fn page(page: &Page) -> String {
    let title = escaped(&page.title);
    let live = if page.live { " data-live" } else { "" };
    let mut figures = vec![];
    let mut main = String::new();
    for section in &page.sections {
        section.write(&mut main, &mut figures);
    }
    let data = json!(figure::all(&figures)).to_string();
    // In JSON, `<` occurs only within texts. Without it, the script element cannot end early.
    let data = data.replace('<', "\\u003c");
    // A reference to a file that is not there.
    let (chart_js, _) = CHART_JS.split_once("//# source").unwrap_or((CHART_JS, ""));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body{live}>\n\
         <header><h1>{title}</h1><button id=\"theme\">theme</button></header>\n\
         <noscript><p>The figures need JavaScript.</p></noscript>\n<main>\n{main}</main>\n\
         <script type=\"application/json\" id=\"figures\">{data}</script>\n\
         <!-- Chart.js:\n{LICENSE}-->\n\
         <script>\n{chart_js}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

impl Section {
    fn write<'a>(&'a self, html: &mut String, figures: &mut Vec<&'a lopt_plot::Figure>) {
        let heading = escaped(&self.heading);
        let (start, end) = match self.folded {
            true => (
                format!("<details>\n<summary><h2>{heading}</h2></summary>\n"),
                "</details>\n",
            ),
            false => (format!("<section>\n<h2>{heading}</h2>\n"), "</section>\n"),
        };
        html.push_str(&start);
        for block in &self.blocks {
            let block = match block {
                Block::Text(text) => format!("<p>{}</p>\n", escaped(text)),
                Block::Verbatim(text) => format!("<pre tabindex=\"0\">{}</pre>\n", escaped(text)),
                Block::List(texts) => {
                    let each = texts
                        .iter()
                        .map(|text| format!("<li>{}</li>\n", escaped(text)));
                    format!("<ul>\n{}</ul>\n", each.collect::<String>())
                }
                Block::Table(table) => table.html(),
                Block::Figure(figure) => {
                    figures.push(figure);
                    format!(
                        "<figure data-figure=\"{}\">\n<h3>{}</h3>\n<div class=\"legend\"></div>\n\
                         <div class=\"panels\"></div>\n<figcaption>{}</figcaption>\n</figure>\n",
                        figures.len() - 1,
                        escaped(&figure.title),
                        escaped(&figure.caption),
                    )
                }
            };
            html.push_str(&block);
        }
        html.push_str(end);
    }
}

impl Table {
    fn html(&self) -> String {
        let class = |column: usize| match column >= self.first_numeric {
            true => " class=\"number\"",
            false => "",
        };
        let mut html = "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>".to_owned();
        for (column, name) in self.header.iter().enumerate() {
            let (class, name) = (class(column), escaped(name));
            // Writing to a string cannot fail.
            let _ = write!(
                html,
                "<th scope=\"col\"{class}><button>{name}</button></th>"
            );
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let _ = write!(html, "<td{}>{}</td>", class(column), escaped(cell));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
        html
    }
}

/// The text with what HTML gives a meaning replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use lopt_plot::{Axis, Color, Figure, Item, Shape};

    use super::*;

    const HOSTILE: &str = "</script><script>alert(1)</script><img src=\"x\" onerror='y'>&amp;<!--";

    fn figure(points: usize, text: &str) -> Figure {
        let points = (0..points).map(|x| (x as f64, (x as f64).sin())).collect();
        let item = Item::new(Color::Blue, Shape::Line(points)).labelled(text);
        let axis = || Axis::linear(text);
        Figure::single(text, text, axis(), axis(), vec![item])
    }

    fn of(section: Section) -> String {
        let page = Page {
            title: HOSTILE.to_owned(),
            live: false,
            sections: vec![section],
        };
        page.html()
    }

    #[test]
    fn texts_stay_texts() {
        let table = Table {
            header: vec![HOSTILE.to_owned()],
            rows: vec![vec![HOSTILE.to_owned()]],
            first_numeric: 0,
        };
        let section = Section::new(HOSTILE)
            .text(HOSTILE)
            .with(Block::List(vec![HOSTILE.to_owned()]))
            .with(Block::Verbatim(HOSTILE.to_owned()))
            .table(table)
            .figure(figure(3, HOSTILE));
        for section in [section.clone(), section.folded()] {
            let html = of(section);
            assert_eq!(html.matches("</script").count(), 3);
            assert_eq!(html.matches("<script").count(), 3);
            assert_eq!(html.matches("<!--").count(), 1);
            assert!(!html.contains("<img"));
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        let page = Page {
            title: "title".to_owned(),
            live: true,
            sections: vec![Section::new("a").figure(figure(3, "a"))],
        };
        let html = page.html();
        for reference in ["src=", "href=", "url(", "@import"] {
            let (page, _) = html.split_once("<!-- Chart.js").unwrap();
            assert!(!page.contains(reference), "{reference}");
            assert!(!SCRIPT.contains(reference), "{reference}");
        }
        assert!(!html.contains("sourceMappingURL"));
        assert!(html.contains("default-src 'none'"));
        assert!(html.contains("Permission is hereby granted"));
    }

    #[test]
    fn pages_stay_small() {
        let figures = (0..20).map(|_| figure(100_000, "a"));
        let html = of(figures.fold(Section::new("a"), Section::figure));
        assert!(html.len() < 3_000_000, "{}", html.len());
        let few = of(Section::new("a").figure(figure(300, "a")));
        assert!(few.contains("298,299]"));
    }
}
