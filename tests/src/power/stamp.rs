//! What a sector holds: a stamp that says who wrote it when and for which place, noise that
//! follows from the stamp, and a checksum over both. So a sector that is half old and half new,
//! or belongs elsewhere, is found out by itself.

use super::Version;

/// Bytes of a sector, the unit that has to be whole.
pub const SECTOR_BYTES: usize = 512;

const MAGIC: u64 = 0x7061_7765_7263_7574;
/// Where the noise begins, and where the checksum stands.
const NOISE: usize = 24;
const SUM: usize = SECTOR_BYTES - 8;

/// Spreads `seed` over 64 bits (the finalizer of `SplitMix64`).
#[must_use]
pub const fn mix(seed: u64) -> u64 {
    let a = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ (b >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ (c >> 31)
}

/// The sector for `place`, written at `version`.
#[must_use]
pub fn sector(place: u64, version: Version) -> [u8; SECTOR_BYTES] {
    let when = (u64::from(version.epoch) << 32) | u64::from(version.seq);
    let mut sector = [0; SECTOR_BYTES];
    let mut noise = mix(mix(place) ^ when);
    for (index, word) in sector.chunks_exact_mut(8).enumerate() {
        let value = match index {
            0 => MAGIC,
            1 => place,
            2 => when,
            _ => {
                noise = mix(noise);
                noise
            }
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
    let (body, sum) = sector.split_at_mut(SUM);
    sum.copy_from_slice(&checksum(body).to_le_bytes());
    sector
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(MAGIC, |sum, word| mix(sum ^ word_of(word)))
}

fn word_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// Reads the sector found at `place`: when it was written; `NEVER` for zeros.
///
/// # Errors
/// With what is wrong with it.
pub fn read(place: u64, sector: &[u8]) -> Result<Version, String> {
    if sector.len() != SECTOR_BYTES {
        return Err(format!("{} bytes are no sector", sector.len()));
    }
    if sector.iter().all(|&byte| byte == 0) {
        return Ok(Version::NEVER);
    }
    let (body, sum) = sector.split_at(SUM);
    if checksum(body) != word_of(sum) {
        return Err("torn: the checksum does not fit".to_owned());
    }
    let mut words = body.get(..NOISE).unwrap_or_default().chunks_exact(8).map(word_of);
    let (magic, at, when) = (words.next(), words.next(), words.next().unwrap_or(0));
    if magic != Some(MAGIC) {
        return Err("foreign: no stamp of ours".to_owned());
    }
    if at != Some(place) {
        return Err(format!("misplaced: written for place {at:?}"));
    }
    let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0);
    Ok(Version { epoch: half(when >> 32), seq: half(when) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Version = Version { epoch: 3, seq: 70_000 };

    #[test]
    fn a_sector_tells_when_it_was_written() {
        assert_eq!(read(9, &sector(9, AT)), Ok(AT));
        assert_eq!(read(9, &[0; SECTOR_BYTES]), Ok(Version::NEVER));
    }

    #[test]
    fn half_of_another_version_is_found_out() {
        let old = sector(9, Version { epoch: 3, seq: 1 });
        for cut in [17, 24, 256, 504, 511] {
            let mut torn = sector(9, AT);
            let (_, tail) = torn.split_at_mut(cut);
            tail.copy_from_slice(old.get(cut..).unwrap_or_default());
            assert!(read(9, &torn).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_sector_of_another_place_is_found_out() {
        assert!(read(8, &sector(9, AT)).is_err());
    }
}
