//! `lopt watch`: the page of a meta-training run, on this machine only.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use lopt_experiments::curves::Live;

use crate::pages;

#[derive(ClapArgs)]
pub struct Args {
    /// The directory of a run, which may be in progress.
    #[arg(value_name = "DIR")]
    run_dir: PathBuf,
    /// Port on 127.0.0.1 to serve on; 0 for any free port.
    #[arg(long, default_value_t = 8077)]
    port: u16,
}

/// The longest request that is read, in bytes.
const REQUEST: u64 = 8192;
/// How long a browser may take to send a request or to take the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most requests at a time.
const CONNECTIONS: usize = 32;

/// Serves until it is stopped.
pub fn run(args: &Args) -> Result<bool> {
    let dir = args.run_dir.display();
    ensure!(
        args.run_dir.join("config.toml").is_file(),
        "{dir} is not the directory of a run: it has no config.toml"
    );
    let site = Site {
        run_dir: args.run_dir.clone(),
        metrics: Mutex::new(Live::new(&args.run_dir)),
    };
    // Errors in the files are told here rather than in the browser.
    site.page()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port));
    let listener = listener.with_context(|| {
        format!(
            "cannot serve on port {}; choose another one with --port, 0 for any",
            args.port
        )
    })?;
    let port = listener.local_addr().context("no address")?.port();
    println!("{dir}: http://127.0.0.1:{port}/ until Ctrl-C");
    let open = AtomicUsize::new(0);
    thread::scope(|scope| {
        for stream in listener.incoming() {
            // A connection that failed or is too much is the browser's to repeat.
            let Ok(stream) = stream else { continue };
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (site, open) = (&site, &open);
            scope.spawn(move || {
                let _ = site.answer(&stream, port);
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(true)
}

struct Site {
    run_dir: PathBuf,
    metrics: Mutex<Live>,
}

/// The status line and the body, which is HTML if the status is 200, else text.
type Answer = (&'static str, String);

impl Site {
    fn page(&self) -> Result<String> {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = pages::of_run(&self.run_dir, metrics.update()?, None)?;
        page.live = true;
        Ok(page.html())
    }

    /// Reads one request and answers it.
    fn answer(&self, stream: &TcpStream, port: u16) -> io::Result<()> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut lines = vec![];
        for line in BufReader::new(stream.take(REQUEST)).lines() {
            match line? {
                line if line.is_empty() => break,
                line => lines.push(line),
            }
        }
        let (status, body) = self.respond(&lines, port);
        let kind = if status == OK { "html" } else { "plain" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/{kind}; charset=utf-8\r\nContent-Length: \
             {}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: \
             close\r\n\r\n",
            body.len()
        );
        let mut stream = stream;
        stream.write_all(head.as_bytes())?;
        if !lines.first().is_some_and(|line| line.starts_with("HEAD ")) {
            stream.write_all(body.as_bytes())?;
        }
        stream.flush()
    }

    fn respond(&self, lines: &[String], port: u16) -> Answer {
        let request = lines.first().map_or("", |line| line.as_str());
        let words: Vec<&str> = request.split(' ').collect();
        let host = lines.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim())
        });
        // A name of another site that leads here is not for its scripts.
        let ours = host.is_some_and(|host| {
            // Clients leave out the port of HTTP.
            let (name, given) = host.rsplit_once(':').unwrap_or((host, "80"));
            ["127.0.0.1", "localhost"].contains(&name) && given == port.to_string()
        });
        match words[..] {
            ["GET" | "HEAD", "/", "HTTP/1.1" | "HTTP/1.0"] if ours => match self.page() {
                Ok(html) => (OK, html),
                Err(error) => ("500 Internal Server Error", format!("{error:#}\n")),
            },
            _ => (
                "404 Not Found",
                "There is only the page / here.\n".to_owned(),
            ),
        }
    }
}

const OK: &str = "200 OK";
