use proptest::prelude::*;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn commands(pool: &mut TunnelPool, now: Duration) -> Vec<Command> {
    std::iter::from_fn(|| pool.poll_command(now)).collect()
}

/// Takes all commands and reports each opened connection as open.
fn settle(pool: &mut TunnelPool, now: Duration) -> Vec<ConnectionId> {
    let mut opened = Vec::new();
    for command in commands(pool, now) {
        match command {
            Command::Open(id) => {
                pool.handle_opened(id, now);
                opened.push(id);
            }
            Command::Close(id, _) => pool.handle_ended(id, End::Closed, now),
        }
    }
    opened
}

fn open_pool() -> (TunnelPool, Vec<ConnectionId>) {
    let mut pool = TunnelPool::new(Settings::default());
    let opened = settle(&mut pool, Duration::ZERO);
    (pool, opened)
}

#[test]
fn two_wait_from_the_start() {
    let (pool, opened) = open_pool();
    assert_eq!(opened, [ConnectionId(0), ConnectionId(1)]);
    assert_eq!(pool.counts().idle, 2);
    assert_eq!(pool.next_wake(Duration::ZERO), None);
}

#[test]
fn ten_more_are_opened_when_too_few_remain() {
    let (mut pool, opened) = open_pool();
    pool.handle_active(opened[0]);
    assert_eq!(settle(&mut pool, seconds(1)).len(), 10);
    pool.handle_active(opened[1]);
    assert_eq!(settle(&mut pool, seconds(1)), []);
    assert_eq!(
        pool.counts(),
        Counts {
            idle: 10,
            active: 2,
            ..Counts::default()
        }
    );
}

#[test]
fn a_served_connection_is_replaced_at_once() {
    let (mut pool, opened) = open_pool();
    pool.handle_active(opened[0]);
    settle(&mut pool, seconds(1));
    pool.handle_ended(opened[0], End::Served, seconds(2));
    assert_eq!(settle(&mut pool, seconds(2)).len(), 1);
}

#[test]
fn surplus_idle_connections_are_closed_after_a_minute() {
    let (mut pool, opened) = open_pool();
    pool.handle_active(opened[0]);
    settle(&mut pool, seconds(1));
    pool.handle_ended(opened[0], End::Served, seconds(2));
    settle(&mut pool, seconds(2));
    assert_eq!(pool.counts().idle, 12);
    assert_eq!(pool.next_wake(seconds(2)), Some(seconds(60)));

    assert_eq!(commands(&mut pool, seconds(59)), []);
    settle(&mut pool, seconds(62));
    assert_eq!(pool.counts().idle, 2);
    assert_eq!(settle(&mut pool, seconds(600)), []);
}

#[test]
fn a_failure_puts_off_the_next_attempt() {
    let (mut pool, opened) = open_pool();
    let delay = Duration::from_millis(700);
    pool.handle_ended(opened[0], End::Failed { delay }, seconds(5));
    assert!(pool.is_delayed(seconds(5)));
    assert_eq!(commands(&mut pool, seconds(5)), []);
    assert_eq!(pool.next_wake(seconds(5)), Some(seconds(5) + delay));
    assert_eq!(settle(&mut pool, seconds(5) + delay).len(), 1);
}

#[test]
fn news_of_the_server_ends_the_delay() {
    let (mut pool, opened) = open_pool();
    let delay = seconds(5);
    pool.handle_ended(opened[0], End::Failed { delay }, seconds(5));
    pool.handle_reachable(seconds(6));
    assert_eq!(settle(&mut pool, seconds(6)).len(), 1);
}

#[test]
fn a_server_that_closes_at_once_is_not_hammered() {
    let (mut pool, opened) = open_pool();
    pool.handle_ended(opened[0], End::Closed, Duration::from_millis(1));
    assert_eq!(commands(&mut pool, Duration::from_millis(1)), []);
    // One that was open for a while is replaced without a delay.
    let (mut pool, opened) = open_pool();
    pool.handle_ended(opened[0], End::Closed, seconds(2000));
    assert_eq!(settle(&mut pool, seconds(2000)).len(), 1);
}

#[test]
fn draining_closes_the_idle_and_waits_for_the_active() {
    let (mut pool, opened) = open_pool();
    pool.handle_active(opened[0]);
    settle(&mut pool, seconds(1));
    pool.handle_drain();
    let closed = commands(&mut pool, seconds(2));
    assert_eq!(closed.len(), 11);
    assert!(
        closed
            .iter()
            .all(|command| matches!(command, Command::Close(_, CloseReason::Draining)))
    );
    for command in closed {
        if let Command::Close(id, _) = command {
            pool.handle_ended(id, End::Closed, seconds(2));
        }
    }
    assert!(!pool.is_drained());
    pool.handle_ended(opened[0], End::Served, seconds(3));
    assert_eq!(commands(&mut pool, seconds(3)), []);
    assert!(pool.is_drained());
}

#[test]
fn a_call_that_crosses_a_close_is_served() {
    let (mut pool, opened) = open_pool();
    pool.handle_drain();
    assert_eq!(commands(&mut pool, seconds(1)).len(), 2);
    pool.handle_active(opened[0]);
    assert_eq!(pool.counts().active, 1);
}

/// What can happen to a pool; connections are named by their place among those that are known.
#[derive(Debug, Clone)]
enum Transition {
    Opened(usize),
    Active(usize),
    Served(usize),
    Closed(usize),
    Failed(usize, u64),
    Reachable,
    Drain,
    Wait(u64),
}

fn transition() -> impl Strategy<Value = Transition> {
    let place = 0..600_usize;
    prop_oneof![
        8 => place.clone().prop_map(Transition::Opened),
        8 => place.clone().prop_map(Transition::Active),
        4 => place.clone().prop_map(Transition::Served),
        2 => place.clone().prop_map(Transition::Closed),
        2 => (place, 0..5000_u64).prop_map(|(place, delay)| Transition::Failed(place, delay)),
        1 => Just(Transition::Reachable),
        1 => Just(Transition::Drain),
        6 => (0..90_000_u64).prop_map(Transition::Wait),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    (1..4_usize, 1..12_usize, 0..30_usize).prop_map(|(min_idle, scale_up_step, above)| Settings {
        min_idle,
        scale_up_step,
        max: min_idle + above,
        idle_timeout: seconds(60),
    })
}

proptest! {
    #[test]
    fn whatever_happens_the_pool_keeps_its_promises(
        settings in settings(),
        transitions in proptest::collection::vec(transition(), 0..200),
    ) {
        let mut pool = TunnelPool::new(settings);
        let mut known: Vec<ConnectionId> = Vec::new();
        let mut now = Duration::ZERO;
        let mut draining = false;
        for transition in transitions {
            let pick = |place: usize| known.get(place % known.len().max(1)).copied();
            match transition {
                Transition::Opened(place) => if let Some(id) = pick(place) { pool.handle_opened(id, now) },
                Transition::Active(place) => if let Some(id) = pick(place) { pool.handle_active(id) },
                Transition::Served(place) => if let Some(id) = pick(place) {
                    pool.handle_ended(id, End::Served, now);
                    known.retain(|other| *other != id);
                },
                Transition::Closed(place) => if let Some(id) = pick(place) {
                    pool.handle_ended(id, End::Closed, now);
                    known.retain(|other| *other != id);
                },
                Transition::Failed(place, delay) => if let Some(id) = pick(place) {
                    pool.handle_ended(id, End::Failed { delay: Duration::from_millis(delay) }, now);
                    known.retain(|other| *other != id);
                },
                Transition::Reachable => pool.handle_reachable(now),
                Transition::Drain => { pool.handle_drain(); draining = true; }
                Transition::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
            }
            let delayed = pool.is_delayed(now);
            // It comes to rest: each command changes a count that has a bound.
            let commands: Vec<Command> = std::iter::from_fn(|| pool.poll_command(now)).take(2000).collect();
            prop_assert!(commands.len() < 2000);
            for command in commands {
                match command {
                    Command::Open(id) => {
                        prop_assert!(!draining && !delayed);
                        prop_assert!(!known.contains(&id));
                        known.push(id);
                    }
                    Command::Close(id, reason) => {
                        prop_assert!(known.contains(&id));
                        prop_assert_eq!(reason == CloseReason::Draining, draining);
                    }
                }
            }
            let counts = pool.counts();
            prop_assert_eq!(counts.total(), known.len());
            prop_assert!(counts.total() <= settings.max);
            let waiting = counts.connecting + counts.idle;
            if draining {
                prop_assert_eq!(waiting, 0);
            } else if !delayed {
                prop_assert!(waiting >= settings.min_idle || counts.total() == settings.max);
            }
            // It never sleeps through something that it wants to do.
            if let Some(wake) = pool.next_wake(now) {
                prop_assert!(wake > now);
            } else if !draining {
                prop_assert!(waiting >= settings.min_idle || counts.total() == settings.max);
                prop_assert!(counts.idle <= settings.min_idle);
            }
        }
        // Left alone, an open pool shrinks to its minimum and stays there.
        if !draining {
            for id in &known { pool.handle_opened(*id, now); }
            now += seconds(200);
            settle(&mut pool, now);
            now += seconds(200);
            settle(&mut pool, now);
            let counts = pool.counts();
            prop_assert!(counts.idle >= settings.min_idle.min(settings.max - counts.active - counts.closing));
            prop_assert!(counts.idle <= settings.min_idle);
        }
    }
}
