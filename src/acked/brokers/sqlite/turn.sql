-- One turn of a worker: settle what has ended, take what is ready. Everything is one statement,
-- `INSERT INTO turn`, and so one step of SQLite: the write lock is never held while the
-- interpreter is waited for. Lives in the connection's own temporary schema.

-- In: the settlements. `outcome` is the state that follows; `back` says that the task would run
-- again and does not if it was revoked meanwhile; a new `body` comes with its `queue` and
-- `priority`.
CREATE TEMP TABLE settling (
    tag, token, outcome, back, event, ended, started, not_before, reason, counts, loss, suspect,
    failure, result, body, queue, priority, consumer, log
);

-- Out: which of them were refused (by rowid), and the deliveries, in order.
CREATE TEMP TABLE refused (number);
CREATE TEMP TABLE taken (
    number INTEGER PRIMARY KEY, seq, token, id, attempt, retries, losses, suspected, runs, queue,
    sent, body
);

CREATE TEMP VIEW turn (consumer, worker, boot, lease_until, queues, wanted, now, token) AS
SELECT 1, 1, 1, 1, 1, 1, 1, 1;

CREATE TEMP TRIGGER turn_steps INSTEAD OF INSERT ON turn
BEGIN
    DELETE FROM refused;
    DELETE FROM taken;
    INSERT INTO settle SELECT rowid, * FROM settling;
    INSERT INTO take SELECT value, new.wanted, new.now, new.token FROM json_each(new.queues);
    UPDATE task
    SET state = 'RUNNING', attempt = taken.attempt, token = taken.token, consumer = new.consumer,
        claimed = new.now, reason = ''
    FROM taken WHERE task.seq = taken.seq;
    -- A worker that claims before its first beat has a lease all the same.
    INSERT INTO worker (worker, boot, lease_until)
    SELECT new.worker, new.boot, new.lease_until WHERE EXISTS (SELECT 1 FROM taken)
    ON CONFLICT DO NOTHING;
END;

-- `record.settle` and `record.history`, for one settlement.
CREATE TEMP VIEW settle (
    number, tag, token, outcome, back, event, ended, started, not_before, reason, counts, loss,
    suspect, failure, result, body, queue, priority, consumer, log
) AS SELECT rowid, * FROM settling;

CREATE TEMP TRIGGER settle_steps INSTEAD OF INSERT ON settle
BEGIN
    INSERT INTO attempt (
        task, run, number, event, started, ended, consumer, reason, failure, next_at, counted,
        loss, log
    )
    SELECT
        seq, runs + 1, attempt, new.event, new.started, new.ended,
        ifnull(new.consumer, consumer), new.reason,
        new.failure, new.not_before, new.counts, new.loss, new.log
    FROM task
    WHERE seq = new.tag AND token = new.token AND state = 'RUNNING' AND new.started IS NOT NULL;

    UPDATE task
    SET state = iif(revoke AND new.back, 'REVOKED', new.outcome),
        due = ifnull(new.not_before, due),
        attempt = attempt - NOT new.counts,
        retries = retries + (new.event = 'retry' AND NOT revoke),
        losses = losses + iif(new.loss, 1 + suspected, 0),
        suspected = iif(new.loss, 0, suspected + new.suspect),
        runs = runs + (new.started IS NOT NULL),
        finished = iif(new.back AND NOT revoke, NULL, new.ended),
        result = new.result,
        failure = iif(new.event = 'succeed', NULL, ifnull(new.failure, failure)),
        reason = iif(revoke AND new.back, 'revoked', new.reason),
        body = ifnull(new.body, body),
        queue = ifnull(new.queue, queue),
        priority = ifnull(new.priority, priority)
    WHERE seq = new.tag AND token = new.token AND state = 'RUNNING';

    -- Settled before with the same token is not refused.
    INSERT INTO refused
    SELECT new.number
    WHERE changes() = 0
      AND NOT EXISTS (SELECT 1 FROM task WHERE seq = new.tag AND token = new.token);
END;

-- Take what one queue has, as far as more is wanted. Nothing may be added to the token's base
-- that could make it overflow: SQLite would go on with a float.
CREATE TEMP VIEW take (queue, wanted, now, token) AS SELECT 1, 1, 1, 1;

CREATE TEMP TRIGGER take_steps INSTEAD OF INSERT ON take
WHEN NOT EXISTS (SELECT 1 FROM pause WHERE queue = new.queue)
BEGIN
    -- At most so many, that a million of them becoming due at once do not keep the lock for long.
    UPDATE task SET state = 'QUEUED'
    WHERE seq IN (
        SELECT seq FROM task
        WHERE state = 'SCHEDULED' AND queue = new.queue AND due <= new.now
        ORDER BY due LIMIT 1000
    );

    INSERT INTO taken (
        seq, token, id, attempt, retries, losses, suspected, runs, queue, sent, body
    )
    SELECT
        seq, new.token + seq, id, attempt + 1, retries, losses, suspected, runs, queue, sent, body
    FROM task
    WHERE state = 'QUEUED' AND queue = new.queue
    ORDER BY priority DESC, due, seq
    LIMIT new.wanted - (SELECT count(*) FROM taken);
END;

-- As a turn, but what is taken are the tasks named in `ids`, where they wait in `queues`.
CREATE TEMP VIEW admission (consumer, worker, boot, lease_until, queues, ids, now, token) AS
SELECT 1, 1, 1, 1, 1, 1, 1, 1;

CREATE TEMP TRIGGER admission_steps INSTEAD OF INSERT ON admission
BEGIN
    DELETE FROM refused;
    DELETE FROM taken;
    INSERT INTO settle SELECT rowid, * FROM settling;
    INSERT INTO taken (
        seq, token, id, attempt, retries, losses, suspected, runs, queue, sent, body
    )
    SELECT
        seq, new.token + seq, task.id, attempt + 1, retries, losses, suspected, runs, queue, sent,
        body
    FROM json_each(new.ids) AS wanted CROSS JOIN task ON task.id = wanted.value
    WHERE (state = 'QUEUED' OR state = 'SCHEDULED' AND due <= new.now)
      AND queue IN (SELECT value FROM json_each(new.queues))
      AND queue NOT IN (SELECT queue FROM pause)
    ORDER BY wanted.key;
    UPDATE task
    SET state = 'RUNNING', attempt = taken.attempt, token = taken.token, consumer = new.consumer,
        claimed = new.now, reason = ''
    FROM taken WHERE task.seq = taken.seq;
    INSERT INTO worker (worker, boot, lease_until)
    SELECT new.worker, new.boot, new.lease_until WHERE EXISTS (SELECT 1 FROM taken)
    ON CONFLICT DO NOTHING;
END;
