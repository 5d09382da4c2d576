//! Which backend is whose turn: by weights in order, or by the client's address. Pure.

use std::net::IpAddr;

/// Slots of the table by which clients are spread over backends: with ten backends one's share strays from
/// a tenth by one percent of all clients (standard deviation), and the whole is some 20 KiB in the kernel.
pub const SLOTS: usize = 1024;
/// The most turns of one round: finer weights are rounded.
const MOST_TURNS: u64 = 1024;

/// One round: each backend as often as its weight says, evenly mixed; begins with another one for each `salt`.
pub fn turns(backends: &[(IpAddr, u16)], salt: u64) -> Vec<IpAddr> {
    let weights = reduced(backends);
    let total: u64 = weights.iter().sum();
    let mut credit = vec![0i64; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..total {
        // Smooth weighted round robin: who is owed most has the turn.
        for (credit, weight) in credit.iter_mut().zip(&weights) {
            *credit += weight.cast_signed();
        }
        let most = (0..credit.len()).rev().max_by_key(|index| credit[*index]).unwrap_or_default();
        credit[most] -= total.cast_signed();
        turns.push(backends[most].0);
    }
    let first = mixed(salt) % total.max(1);
    turns.rotate_left(usize::try_from(first).unwrap_or_default());
    turns
}

/// Small weights in the same proportion.
fn reduced(backends: &[(IpAddr, u16)]) -> Vec<u64> {
    let weights = || backends.iter().map(|(_, weight)| u64::from(*weight).max(1));
    let divisor = weights().fold(0, greatest_common_divisor).max(1);
    let total: u64 = weights().sum::<u64>() / divisor;
    let scaled = |weight: u64| {
        if total > MOST_TURNS { (weight * MOST_TURNS / (total * divisor)).max(1) } else { weight / divisor }
    };
    weights().map(scaled).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The backend of each slot, by weighted rendezvous hashing: a backend that goes gives its own slots away and
/// moves no other. The same on every host.
#[allow(clippy::cast_precision_loss)] // 53 bits of a hash are enough
pub fn slots(backends: &[(IpAddr, u16)]) -> Vec<IpAddr> {
    let seeds: Vec<u64> = backends.iter().map(|(address, _)| seed(*address)).collect();
    let winner = |slot: usize| {
        let score = |index: usize| {
            let drawn = mixed(seeds[index] ^ mixed(slot as u64)) >> 11;
            let uniform = (drawn as f64 + 0.5) / (1u64 << 53) as f64;
            f64::from(backends[index].1.max(1)) / -uniform.ln()
        };
        (0..backends.len()).max_by(|a, b| score(*a).total_cmp(&score(*b))).map(|index| backends[index].0)
    };
    (0..SLOTS).filter_map(winner).collect()
}

/// The slot of a client whose connection another one stands for. The same on every host.
pub fn slot_of(client: IpAddr) -> u32 {
    let slots = u64::try_from(SLOTS).expect("a small number");
    u32::try_from(mixed(seed(client.to_canonical())) % slots).expect("less than the slots")
}

fn seed(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => mixed(u64::from(u32::from(v4))),
        IpAddr::V6(v6) => {
            let [high, low] = [u128::from(v6) >> 64, u128::from(v6) & u128::from(u64::MAX)];
            let word = |bits: u128| u64::try_from(bits).unwrap_or_default();
            mixed(mixed(word(high)) ^ word(low))
        }
    }
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): every bit depends on every bit.
pub fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn backends(count: u8, weight: impl Fn(u8) -> u16) -> Vec<(IpAddr, u16)> {
        (1..=count).map(|n| (IpAddr::from([10, 255, 0, n]), weight(n))).collect()
    }

    fn shares(turns: &[IpAddr]) -> BTreeMap<IpAddr, usize> {
        let mut shares = BTreeMap::new();
        turns.iter().for_each(|turn| *shares.entry(*turn).or_default() += 1);
        shares
    }

    /// P43: weights 1:3 give a quarter and three quarters, in turn.
    #[test]
    fn p43_weights_are_kept_and_mixed() {
        let turns_of = |weights: [u16; 2]| turns(&backends(2, |n| weights[usize::from(n) - 1]), 1);
        assert_eq!(turns_of([1, 3]).len(), 4);
        assert_eq!(shares(&turns_of([1, 3])).into_values().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(turns_of([500, 1500]).len(), 4, "only the proportion counts");
        assert_eq!(turns_of([7, 7]).len(), 2);
        let fine = turns_of([1, 65535]);
        assert!(fine.len() <= 1025 && shares(&fine).len() == 2, "{}", fine.len());
        let first = backends(2, |_| 1)[0].0;
        let mixed = turns(&backends(3, |n| [4, 2, 2][usize::from(n) - 1]), 0);
        assert!(
            mixed.windows(3).all(|three| three.iter().any(|turn| *turn != first)),
            "never long the same: {mixed:?}"
        );
    }

    #[test]
    fn rounds_begin_anywhere() {
        let mut begins = BTreeMap::new();
        (0..1000).for_each(|salt| *begins.entry(turns(&backends(5, |_| 1), salt)[0]).or_insert(0) += 1);
        assert!(begins.len() == 5 && begins.values().all(|count| (140..260).contains(count)), "{begins:?}");
    }

    /// P43: taking away 1 of 10 backends moves its own clients and no others; at most 15 %.
    #[test]
    fn p43_a_backend_that_goes_moves_only_its_own_slots() {
        let all = backends(10, |_| 1);
        let before = slots(&all);
        for gone in 0..all.len() {
            let mut left = all.clone();
            let (address, _) = left.remove(gone);
            let after = slots(&left);
            assert_eq!(after.len(), SLOTS);
            let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
            assert_eq!(moved, before.iter().filter(|slot| **slot == address).count(), "no other slot");
            assert!(moved * 100 <= SLOTS * 15, "{moved} of {SLOTS}");
        }
    }

    #[test]
    fn slots_follow_weights() {
        let weighted = backends(2, |n| if n == 1 { 1 } else { 3 });
        let share = shares(&slots(&weighted))[&weighted[0].0];
        assert!((220..292).contains(&share), "{share} of {SLOTS}");
        let six: Vec<(IpAddr, u16)> = (1..=4u16).map(|n| (IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]), 1)).collect();
        assert!(shares(&slots(&six)).values().all(|share| (190..330).contains(share)));
    }
}
