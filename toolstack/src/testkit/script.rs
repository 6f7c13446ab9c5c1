//! A fuzzer's bytes, as what hostile parties do.

/// Words that mean something to somebody: the daemon, libxl, xl's parser, a shell, a terminal.
const WORDS: [&str; 32] = [
    "",
    "0",
    "1",
    "2",
    "5",
    "6",
    "r",
    "w",
    "serving",
    "failed",
    "+7",
    "-1",
    "65536",
    "4294967295",
    "99999999999999999999",
    "0x2000000",
    "standalone",
    "..",
    "../../../etc/shadow",
    "/etc/passwd",
    "\"\nkernel = \"/evil",
    "',script=/bin/sh,target=/x",
    "]\nextra = 1\n",
    "a,b",
    "$(reboot)",
    "\u{1b}[2J\u{7}",
    "\r\n<0>kernel: forged",
    "\0\u{1}",
    "\u{202e}gnp.exe",
    "\\",
    "%n%s",
    "\u{e9}",
];
/// The longest value that xenstore takes (`XENSTORE_PAYLOAD_MAX`).
const LONGEST: usize = 4096;
/// Disk files that are good, or nearly: `IMAGE` stands for the path of an image.
const FILES: [&str; 8] = [
    "storage = \"ram\"\nsize = \"1MiB\"\n",
    "storage = \"pv\"\ntarget = \"IMAGE\"\n",
    "storage = \"pv\"\ntarget = \"IMAGE\"\nserial = \"#\"\n",
    "storage = \"pv\"\ntarget = \"#\"\n",
    "storage = \"pv\"\ntarget = \"/far\"\nbackend = \"#\"\n",
    "storage = \"ram\"\nsize = \"#\"\n",
    "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/#\"\naddress = \"10.0.0.6/24\"\n",
    "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"\nbridge = \"#\"\n",
];

/// What is left of the bytes.
pub struct Script {
    bytes: Vec<u8>,
    at: usize,
}

impl Script {
    pub fn new(bytes: &[u8]) -> Script {
        Script { bytes: bytes.to_owned(), at: 0 }
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn u8(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    /// A number below `end`, which is 1 to 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.u8()) % end
    }

    /// One of these.
    pub fn choose<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// A value of a node.
    pub fn text(&mut self) -> String {
        match self.below(8) {
            0 => {
                let len = self.below(24);
                let bytes: Vec<u8> = (0..len).map(|_| self.u8()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            1 => self.choose(&WORDS).repeat(self.below(4)),
            2 => {
                let mut text = (*self.choose(&WORDS)).to_owned();
                text.push_str(&"x".repeat(LONGEST.saturating_sub(text.len())));
                text
            }
            _ => (*self.choose(&WORDS)).to_owned(),
        }
    }

    /// A file's name, if one may be called so, or else the path that it is.
    pub fn file_name(&mut self) -> String {
        let text: String = self.text().chars().filter(|c| *c != '\0').collect();
        if self.below(4) == 0 { format!("disk {text}.img") } else { text }
    }

    /// What a disk file holds.
    pub fn disk_file(&mut self) -> Vec<u8> {
        if self.below(8) == 0 {
            return self.text().into_bytes();
        }
        let mut file = (*self.choose(&FILES)).to_owned();
        if file.contains('#') {
            let text = self.text();
            // Escaped, so that it is TOML and comes through as it is.
            let escaped: String = text.chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect();
            file = file.replace('#', &escaped);
        }
        if self.below(4) == 0 {
            let at = self.below(256).min(file.len());
            if file.is_char_boundary(at) {
                let text = self.text();
                file.insert_str(at, &text);
            }
        }
        file.into_bytes()
    }
}
