//! `lopt watch`, asked by raw requests.

#[path = "common/browser.rs"]
#[allow(dead_code)]
mod browser;
#[allow(dead_code)]
mod common;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Child,
    thread,
};

use common::{fail, lopt, succeed, tiny};

/// A server, which ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut child = lopt(folder, &["watch", "run", "--port", "0"])
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let address = line.split("http://127.0.0.1:").nth(1).expect(&line);
        let port = address.split('/').next().unwrap().parse().unwrap();
        Self { child, port }
    }

    /// The answer to these bytes.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request);
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn ask(&self, line: &str, host: &str) -> String {
        self.raw(format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    }

    fn page(&self) -> String {
        self.ask("GET /", &format!("127.0.0.1:{}", self.port))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a complete run, and returns its metrics file and the lines in it.
fn complete_run(here: &Path) -> (PathBuf, Vec<String>) {
    succeed(here, &tiny("run", &[]));
    let metrics = here.join("run/metrics.jsonl");
    let all = fs::read_to_string(&metrics).unwrap();
    let lines = all.split_inclusive('\n').map(str::to_owned).collect();
    (metrics, lines)
}

#[test]
fn a_run_is_shown_while_its_metrics_grow() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let (metrics, lines) = complete_run(here);
    // As if the run were at its fifth outer step and writing the line of the sixth.
    fs::remove_file(here.join("run/theta.safetensors")).unwrap();
    fs::write(&metrics, lines[..5].concat() + &lines[5][..20]).unwrap();
    let server = Server::start(here);
    let page = server.page();
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("<body data-live>") && page.contains("outer step 5 of 12<"));
    let mut file = File::options().append(true).open(&metrics).unwrap();
    file.write_all(&lines[5].as_bytes()[20..]).unwrap();
    assert!(server.page().contains("outer step 6 of 12<"));
    // Resumed from an earlier checkpoint.
    fs::write(&metrics, lines[..4].concat()).unwrap();
    assert!(server.page().contains("outer step 4 of 12<"));
    fs::write(&metrics, "damaged\n").unwrap();
    let page = server.page();
    assert!(
        page.starts_with("HTTP/1.1 500 ") && page.contains("metrics.jsonl"),
        "{page}"
    );
    fs::write(&metrics, lines.concat()).unwrap();
    assert!(server.page().contains("outer step 12 of 12<"));
}

#[test]
fn only_the_page_is_served_and_only_to_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    succeed(here, &tiny("run", &[]));
    let server = Server::start(here);
    let local = format!("localhost:{}", server.port);
    let head = server.ask("HEAD /", &local);
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    for line in [
        "GET /x",
        "GET /../config.toml",
        "POST /",
        "GET //",
        "GET",
        "",
    ] {
        let answer = server.ask(line, &local);
        assert!(
            answer.starts_with("HTTP/1.1 404 Not Found\r\n"),
            "{line}: {answer}"
        );
    }
    for host in ["evil.example", "127.0.0.1", ""] {
        assert!(
            server.ask("GET /", host).starts_with("HTTP/1.1 404 "),
            "{host}"
        );
    }
    for garbage in [
        vec![b'a'; 100_000],
        vec![0xff; 100],
        b"GET / HTTP/9\r\n\r\n".to_vec(),
    ] {
        let answer = server.raw(&[&garbage[..], b"\r\n\r\n"].concat());
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    assert!(server.page().starts_with("HTTP/1.1 200 OK\r\n"));
    let port = server.port.to_string();
    let text = fail(here, &["watch", "run", "--port", &port]);
    assert!(text.contains(&port) && text.contains("--port"), "{text}");
    let text = fail(here, &["watch", "nothing"]);
    assert!(
        text.contains("nothing is not the directory of a run"),
        "{text}"
    );
}

/// What a reader toggled, sorted and opened stays so when the page is loaded again.
#[test]
fn a_page_refreshes_itself() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let (metrics, lines) = complete_run(here);
    fs::write(&metrics, lines[..9].concat()).unwrap();
    let server = Server::start(here);
    let script = r#"
        const steps = () => [...document.querySelectorAll("li")].find((li) => li.textContent.startsWith("outer step")).textContent;
        const figure = () => figureOf("Training losses");
        const button = () => buttonOf(figure(), "meta-loss");
        const points = () => chartsOf(figure())[0].data.datasets[0].data.length;
        const table = () => [...document.querySelectorAll("table")].find((table) => headOf(table, "final loss"));
        button().click();
        document.querySelector("details").open = true;
        const head = () => headOf(table(), "outer step").querySelector("button");
        head().click();
        head().click();
        result.before = [steps(), points(), rowsOf(table()).map((row) => row[0])];
        await pause(8000);
        result.after = [steps(), points(), rowsOf(table()).map((row) => row[0])];
        result.pressed = button().getAttribute("aria-pressed");
        result.shown = shown(figure())[0];
        result.open = document.querySelector("details").open;
    "#;
    // The page with the script at first, then as it is and with more metrics.
    let first = browser::with_script(&server.page(), script);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut first = Some(first);
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            if line.starts_with("GET / ") {
                let page = first.take().unwrap_or_else(|| server.page());
                // Its length is not that of the page with the script.
                let page = page.replacen("Content-Length", "X-Length", 1);
                let _ = stream.write_all(page.as_bytes());
                fs::write(&metrics, lines.concat()).unwrap();
            }
        }
    });
    let Some(result) = browser::open(&format!("http://{address}/")) else {
        return;
    };
    let before = serde_json::json!(["outer step 9 of 12, complete", 9, ["8", "4"]]);
    let after = serde_json::json!(["outer step 12 of 12, complete", 12, ["12", "8", "4"]]);
    assert_eq!(result["before"], before);
    assert_eq!(result["after"], after);
    assert_eq!(result["pressed"], "false");
    assert_eq!(result["shown"].as_array().unwrap().len(), 2);
    assert_eq!(result["open"], true);
}
