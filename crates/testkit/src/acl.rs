//! POSIX ACLs as the kernel passes them in extended attributes, as far as a fake must know them: their tie to the mode.

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;

type AclEntry = (u16, u16, u32);

/// An ACL that gives the user `uid` the permissions `perm`, as it is on a file of the mode `mode`.
pub fn with_user(mode: u32, uid: u32, perm: u16) -> Vec<u8> {
    encode(&[
        (USER_OBJ, (mode >> 6 & 7) as u16, NO_ID),
        (USER, perm & 7, uid),
        (GROUP_OBJ, 4, NO_ID),
        (MASK, (mode >> 3 & 7) as u16, NO_ID),
        (OTHER, (mode & 7) as u16, NO_ID),
    ])
}

/// The same ACL after `chmod`; `None` where the bytes are no ACL.
pub fn with_mode(acl: &[u8], mode: u32) -> Option<Vec<u8>> {
    let mut entries = decode(acl)?;
    let group_tag = if has_mask(&entries) { MASK } else { GROUP_OBJ };
    for (tag, perm, _) in &mut entries {
        match *tag {
            USER_OBJ => *perm = (mode >> 6 & 7) as u16,
            OTHER => *perm = (mode & 7) as u16,
            tag if tag == group_tag => *perm = (mode >> 3 & 7) as u16,
            _ => {}
        }
    }
    Some(encode(&entries))
}

/// The permission bits that an access ACL gives its file, and whether it says no more than they do; `None` where the
/// bytes are no valid ACL.
pub fn mode_of(acl: &[u8]) -> Option<(u32, bool)> {
    let entries = decode(acl)?;
    let find = |wanted: u16| entries.iter().find(|(tag, ..)| *tag == wanted).map(|(_, perm, _)| u32::from(*perm));
    let group = find(MASK).or_else(|| find(GROUP_OBJ))?;
    Some((find(USER_OBJ)? << 6 | group << 3 | find(OTHER)?, entries.len() == 3))
}

fn has_mask(entries: &[AclEntry]) -> bool {
    entries.iter().any(|(tag, ..)| *tag == MASK)
}

fn encode(entries: &[AclEntry]) -> Vec<u8> {
    let mut out = VERSION.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&perm.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

fn decode(acl: &[u8]) -> Option<Vec<AclEntry>> {
    let (version, rest) = acl.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || !rest.len().is_multiple_of(8) {
        return None;
    }
    let entries: Vec<AclEntry> = rest
        .chunks_exact(8)
        .map(|e| {
            (
                u16::from_le_bytes([e[0], e[1]]),
                u16::from_le_bytes([e[2], e[3]]),
                u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
            )
        })
        .collect();
    let named = entries.iter().any(|(tag, ..)| matches!(*tag, USER | GROUP));
    let sorted = entries.is_sorted_by_key(|(tag, _, id)| (*tag, if *id == NO_ID { 0 } else { *id }));
    (sorted && (!named || has_mask(&entries))).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_acl_follow_each_other() {
        let acl = with_user(0o640, 1000, 6);
        assert_eq!(mode_of(&acl), Some((0o640, false)));
        let acl = with_mode(&acl, 0o751).unwrap();
        assert_eq!(mode_of(&acl), Some((0o751, false)));
        assert_eq!(mode_of(b"nonsense"), None);
    }
}
