-- Take over what *holder* holds (a worker, or one consumer), or with an empty name what those hold
-- that have no lease.
--
-- args[3]  holder, args[4] who takes over, args[5] base of the tokens
-- args[6]  seconds since the server's clock was set, as far as the caller has seen: a lease says
--          nothing before who lives has had the time to renew it, which is as long as the lease
-- args[7]  bases of earlier seizures of the same taker whose answers were lost, and this one's
-- args[8]  the process that takes over
-- args[9]  what the caller expects the time to be, false where it has no idea: if the clock was set
--          forward just now, no lease has run out
-- args[10] tokens that stay as they are
-- Returns  {now, rows of the deliveries, the sizes of their messages}. Those are read with
--          `bodies`: a host may have died with more than a slow line carries in the time there is
--          for one answer.
--
-- An answer can be lost, and then nobody would settle what was taken over: its new holder lives. So
-- the rows are kept for a while, and a repetition gives those that are still held as they were.
--
-- Keys: holders, held:* (sets), state, body, beat, claimant:* (hashes), lease (zset), seized:<base>
-- (strings: rows as they were returned, for an hour).

begin()
local holder, by, base = args[3], args[4], args[5]
local rows, n, found, tags, stays, heard = {}, 0, {}, {}, {}, {}
local ROW = 13
for _, token in ipairs(args[10]) do stays[token] = true end

for _, earlier in ipairs(args[7]) do
  local kept = call('GET', P .. 'seized:' .. format('%.0f', earlier))
  if kept then
    local theirs, theirs_tags = decode(kept), {}
    for at = 10, #theirs, ROW do theirs_tags[#theirs_tags + 1] = tag_of(theirs[at]) end
    for i, r in ipairs(records(theirs_tags)) do
      local at = (i - 1) * ROW
      -- Once: a seizure that was itself repeated has kept what those before it gave.
      if r and not heard[theirs_tags[i]]
        and r[STATE] == 'RUNNING' and r[CONSUMER] == by and r[TOKEN] == theirs[at + 2] then
        for k = 1, ROW do rows[n + k] = theirs[at + k] end
        n = n + ROW
        found[#found + 1] = theirs_tags[i]
        heard[theirs_tags[i]] = true
      end
    end
  end
end

local function take(consumer)
  for _, tag in ipairs(held_by(consumer)) do tags[#tags + 1] = tag end
end

local one_consumer = worker_of(holder) ~= holder
local holders = one_consumer and {holder} or call('SMEMBERS', P .. 'holders')
if holder ~= '' then
  for _, consumer in ipairs(holders) do
    if consumer == holder or worker_of(consumer) == holder then take(consumer) end
  end
  if holder ~= by then bar(holder, args[8]) end
else
  local function length_of(worker)
    local beat = call('HGET', P .. 'beat', worker)
    return beat and decode(beat) or LEASE
  end
  local until_then = exact(args[9] and min(steady, args[9]) or steady)
  for _, worker in ipairs(call('ZRANGEBYSCORE', P .. 'lease', '-inf', until_then)) do
    if length_of(worker) <= args[6] then
      call('ZREM', P .. 'lease', worker)
      call('HDEL', P .. 'beat', worker)
    end
  end
  -- The server's clock was set back: no lease may last longer than it was given for.
  local longer = '(' .. exact(steady + LEASE)
  local long = call('ZRANGEBYSCORE', P .. 'lease', longer, '+inf', 'WITHSCORES')
  for i = 1, #long, 2 do
    local lease = length_of(long[i])
    if long[i + 1] - steady > lease + 1 then
      call('ZADD', P .. 'lease', steady + lease, long[i])
    end
  end
  for _, consumer in ipairs(holders) do
    if call('EXISTS', P .. 'held:' .. consumer) == 0 then
      call('SREM', P .. 'holders', consumer)
    elseif not call('ZSCORE', P .. 'lease', worker_of(consumer)) then
      take(consumer)
    end
  end
end

table.sort(tags)
local fresh = n
for i, r in ipairs(records(tags)) do
  if r and not stays[r[TOKEN]] and not heard[tags[i]] then
    local tag, before, token = tags[i], r[CONSUMER], r[TOKEN]
    one(srem, 'held:' .. before, bare(tag))
    r[TOKEN], r[CONSUMER] = base + tag, by
    store(tag, r)
    one(sadd, 'held:' .. by, bare(tag))
    found[#found + 1] = tag
    for k, value in ipairs({
      r[ID], r[TOKEN], r[ATTEMPT], r[RETRIES], r[LOSSES], r[SUSPECTED], r[RUNS], r[QUEUE], r[SENT],
      tonumber(tag), before, token, r[CLAIMED],
    }) do rows[n + k] = value end
    n = n + ROW
  end
end
if n > fresh then
  expect_beats(by)
  call('SET', P .. 'seized:' .. format('%.0f', base), pack(rows), 'EX', 3600)
end
local sizes = {}
for i, tag in ipairs(found) do sizes[i] = call('HSTRLEN', P .. 'body', tag) end
flush()
return {pack({now, rows, sizes})}
