-- The tables of one acked database. Times are wall-clock seconds unless it is said otherwise.

CREATE TABLE task (
    seq INTEGER PRIMARY KEY,           -- `Record.tag`
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,                -- `Record.task`
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    due REAL NOT NULL,
    sent REAL NOT NULL,
    body BLOB NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    suspected INTEGER NOT NULL DEFAULT 0,
    runs INTEGER NOT NULL DEFAULT 0,   -- rows it has in `attempt`
    token INTEGER NOT NULL DEFAULT 0,
    consumer TEXT NOT NULL DEFAULT '',
    claimed REAL,
    finished REAL,
    result BLOB,
    failure TEXT,                      -- JSON of a `Failure`
    reason TEXT NOT NULL DEFAULT '',
    revoke INTEGER NOT NULL DEFAULT 0,
    -- No IN (...): it would be made into a table for each row, and cost a third of every turn.
    CHECK (
        CASE state
            WHEN 'SCHEDULED' THEN finished IS NULL
            WHEN 'QUEUED' THEN finished IS NULL
            WHEN 'RUNNING' THEN finished IS NULL AND token > 0 AND consumer <> ''
                AND claimed IS NOT NULL
            WHEN 'SUCCESS' THEN finished IS NOT NULL
            WHEN 'FAILURE' THEN finished IS NOT NULL
            WHEN 'REVOKED' THEN finished IS NOT NULL
            ELSE false
        END
    ),
    CHECK (attempt >= 0 AND retries >= 0 AND losses >= 0 AND suspected >= 0 AND runs >= 0)
) STRICT;

-- In the order in which they are claimed. `due` also tells how long the first has waited.
CREATE INDEX ready ON task (queue, priority DESC, due, seq) WHERE state = 'QUEUED';
CREATE INDEX scheduled ON task (queue, due) WHERE state = 'SCHEDULED';
CREATE INDEX running ON task (consumer) WHERE state = 'RUNNING';
CREATE INDEX final ON task (state, finished) WHERE finished IS NOT NULL;

-- One row for each run of a task, the first has `run` 1. See `Attempt`.
CREATE TABLE attempt (
    task INTEGER NOT NULL,
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    event TEXT NOT NULL,
    started REAL NOT NULL,
    ended REAL NOT NULL,
    consumer TEXT NOT NULL,
    reason TEXT NOT NULL,
    failure TEXT,
    next_at REAL,
    counted INTEGER NOT NULL,
    loss INTEGER NOT NULL,
    log TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (task, run)
) STRICT, WITHOUT ROWID;

-- What the few tasks say that report progress or save checkpoints.
CREATE TABLE note (
    task INTEGER PRIMARY KEY,
    progress TEXT,                     -- JSON of a `Progress`
    checkpoint BLOB
) STRICT;

-- How many finished tasks there are: counting them would read a million index entries.
CREATE TABLE tally (
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER count_finished AFTER UPDATE OF state ON task WHEN new.finished IS NOT NULL
BEGIN
    INSERT INTO tally (queue, state, count) VALUES (new.queue, new.state, 1)
    ON CONFLICT DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER count_reopened AFTER UPDATE OF state ON task WHEN old.finished IS NOT NULL
BEGIN
    UPDATE tally SET count = count - 1 WHERE queue = old.queue AND state = old.state;
END;

CREATE TRIGGER delete_what_belongs_to_it AFTER DELETE ON task
BEGIN
    DELETE FROM attempt WHERE task = old.seq;
    DELETE FROM note WHERE task = old.seq;
    UPDATE tally SET count = count - 1
    WHERE old.finished IS NOT NULL AND queue = old.queue AND state = old.state;
END;

-- Who is alive. A worker whose lease has run out, or that has no row, is dead.
CREATE TABLE worker (
    worker TEXT PRIMARY KEY,
    boot TEXT NOT NULL,                -- which boot of the host `lease_until` belongs to
    lease_until REAL NOT NULL,         -- steady-clock seconds
    beat TEXT                          -- JSON of a `Beat`; NULL when it claimed before its first
) STRICT, WITHOUT ROWID;

-- See `acked.tally.Count`.
CREATE TABLE counter (
    minute INTEGER NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    what TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (minute, queue, task, what)
) STRICT, WITHOUT ROWID;

-- See `Broker.exchange`.
CREATE TABLE agreement (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pause (
    queue TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
