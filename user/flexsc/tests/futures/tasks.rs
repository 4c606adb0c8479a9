// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks of the executor.

use super::*;

#[test]
fn more_tasks_than_room() {
    let executor = executor();
    let sum = Rc::new(Cell::new(0));
    executor
        .block_on(async {
            let tasks: Vec<_> = (0..300_u64)
                .map(|number| {
                    let reactor = executor.reactor().clone();
                    let sum = Rc::clone(&sum);
                    executor.spawn(async move {
                        let time = Duration::from_micros(number % 7);
                        reactor.submit(Sleep::new(time)).await.unwrap();
                        sum.set(sum.get() + number);
                        number
                    })
                })
                .collect();
            for (number, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await, Some(number as u64));
            }
        })
        .unwrap();
    assert_eq!(sum.get(), 300 * 299 / 2);
}

#[test]
fn what_ready_tasks_submit_is_one_batch() {
    let Ok(engine) = Engine::open() else {
        return;
    };
    let ring =
        Ring::new(engine.register(1).unwrap()).unwrap_or_else(|(_, error)| panic!("{error}"));
    let executor = Executor::new(ring).unwrap();
    let before = engine.stats().unwrap();
    executor
        .block_on(async {
            let tasks: Vec<_> = (0..32)
                .map(|_| {
                    let reactor = executor.reactor().clone();
                    executor.spawn(async move {
                        for _ in 0..10 {
                            reactor.submit(Fstat::new(Fd::cwd())).await.unwrap_err();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        })
        .unwrap();
    let after = engine.stats().unwrap();
    assert_eq!(after.refused, before.refused);
    let waits = after.waits - before.waits;
    assert!((10..=14).contains(&waits), "{waits} waits for 10 batches");
}

#[test]
fn another_thread_wakes_a_sleeping_executor() {
    let executor = executor();
    for _ in 0..20 {
        let shared: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let waker = loop {
                if let Some(waker) = theirs.lock().unwrap().1.take() {
                    break waker;
                }
                thread::yield_now();
            };
            thread::sleep(Duration::from_millis(1));
            theirs.lock().unwrap().0 = true;
            waker.wake();
        });
        let flag = poll_fn(|cx| {
            let mut shared = shared.lock().unwrap();
            if shared.0 {
                return Poll::Ready(());
            }
            shared.1 = Some(cx.waker().clone());
            Poll::Pending
        });
        executor.block_on(flag).unwrap();
        thread.join().unwrap();
    }
}

#[test]
fn a_cancelled_task_ends_at_once_and_has_no_output() {
    let executor = executor();
    let (near, _far) = pair();
    let (buf, alive) = Watched::new();
    executor
        .block_on(async {
            let read = executor.reactor().submit(Read::new(near, buf));
            let dropped = Rc::new(());
            let theirs = Rc::clone(&dropped);
            let task = executor.spawn(async move {
                let _theirs = theirs;
                read.await.0
            });
            let short = Duration::from_millis(1);
            executor.reactor().submit(Sleep::new(short)).await.unwrap();
            task.cancel();
            assert_eq!(Rc::strong_count(&dropped), 1);
            assert!(task.await.is_none());
        })
        .unwrap();
    drop(executor);
    assert!(!alive.load(Ordering::Relaxed));
}

#[test]
fn a_task_can_cancel_itself_and_spawn_others() {
    let executor = executor();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (theirs, inner) = (Rc::clone(&seen), executor.clone());
    executor
        .block_on(async {
            let own: Rc<RefCell<Option<flexsc::futures::Task<()>>>> = Rc::default();
            let mine = Rc::clone(&own);
            let task = executor.spawn(async move {
                theirs.borrow_mut().push("first");
                let theirs = Rc::clone(&theirs);
                let second = inner.spawn(async move { theirs.borrow_mut().push("second") });
                second.await.unwrap();
                if let Some(task) = &*mine.borrow() {
                    task.cancel();
                }
                poll_fn(|_| Poll::<()>::Pending).await;
                unreachable!();
            });
            *own.borrow_mut() = Some(task);
            while seen.borrow().len() < 2 {
                let moment = Duration::from_micros(10);
                executor.reactor().submit(Sleep::new(moment)).await.unwrap();
            }
        })
        .unwrap();
    assert_eq!(*seen.borrow(), ["first", "second"]);
}

#[test]
fn tasks_are_dropped_with_the_run() {
    let executor = executor();
    let (near, mut far) = pair();
    let (buf, alive) = Watched::new();
    let inner = executor.clone();
    let left = executor.spawn(async move {
        let read = inner.reactor().submit(Read::new(&near, buf));
        read.await.0.unwrap()
    });
    let short = executor
        .reactor()
        .submit(Sleep::new(Duration::from_millis(1)));
    executor.block_on(short).unwrap().unwrap();
    // The task is gone, and the ring ends its read.
    assert_eq!(executor.block_on(left).unwrap(), None);
    drop(executor);
    assert!(!alive.load(Ordering::Relaxed));
    assert!(std::io::Write::write(&mut far, b"x").is_err());
}

#[test]
fn a_panic_of_a_task_ends_the_run() {
    let executor = executor();
    let inner = executor.clone();
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let task = inner.spawn(async { panic!("planted") });
        inner.block_on(task)
    }));
    assert!(run.is_err());
    let short = executor.reactor().submit(Sleep::new(Duration::ZERO));
    executor.block_on(short).unwrap().unwrap();
}

#[test]
fn a_busy_task_starves_no_operation() {
    let executor = executor();
    let short = executor
        .reactor()
        .submit(Sleep::new(Duration::from_millis(2)));
    executor.spawn(poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    executor.block_on(short).unwrap().unwrap();
}

#[test]
fn only_a_wait_that_one_result_ends_is_a_policy() {
    let executor = executor();
    executor.set_wait(Wait::adaptive());
    executor.set_wait(Wait::some(8).linger(Duration::from_micros(20)));
    let (near, far) = pair();
    let far = Fd::from(far);
    executor
        .block_on(async {
            let read = executor.reactor().submit(Read::new(&near, vec![0; 4]));
            let read = executor.spawn(read);
            let send = Send::new(&far, b"ping");
            executor.reactor().submit(send).await.0.unwrap();
            assert_eq!(read.await.unwrap().1, b"ping");
        })
        .unwrap();
    for wait in [Wait::all(), Wait::some(2)] {
        let set =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| executor.set_wait(wait)));
        assert!(set.is_err());
    }
}
