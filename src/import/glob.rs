//! Wildcards in the name of an included file: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`.

/// True if `text` has a wildcard.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// True if `pattern` matches all of `name`. As in a shell, a leading dot must be named.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Only the last `*` is ever tried again, so that a hostile pattern takes a product, not an exponent.
    let (mut p, mut n, mut again) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            again = Some((p, n));
            p += 1;
        } else if let Some(next) = one(&pattern, p, name[n]) {
            (p, n) = (next, n + 1);
        } else if let Some((star, from)) = again {
            again = Some((star, from + 1));
            (p, n) = (star + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on after it matched `c` at `p`; `None` if it does not.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => {
            let Some(length) = pattern[p + 1..].iter().skip(1).position(|c| *c == ']') else {
                return (c == '[').then_some(p + 1);
            };
            let inside = &pattern[p + 1..p + 2 + length];
            let (set, wanted) = match inside {
                ['!' | '^', rest @ ..] => (rest, false),
                all => (all, true),
            };
            (in_set(set, c) == wanted).then_some(p + 3 + length)
        }
        plain => (plain == c).then_some(p + 1),
    }
}

fn in_set(set: &[char], c: char) -> bool {
    match set {
        [] => false,
        [from, '-', to, rest @ ..] => (*from..=*to).contains(&c) || in_set(rest, c),
        [one, rest @ ..] => *one == c || in_set(rest, c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name, wanted) in [
            ("*.res", "swarm.res", true),
            ("*.res", "swarm.res.old", false),
            ("*.res", ".hidden.res", false),
            ("r?.res", "r0.res", true),
            ("r[0-3].res", "r2.res", true),
            ("r[!0-3].res", "r2.res", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a[", "a[", true),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!matches(&pattern, &"a".repeat(2_000)));
    }
}
