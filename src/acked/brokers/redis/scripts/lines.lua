-- The lines in which tasks wait, one for each priority of a queue and one for what is due later.
--
-- Keys: lanes:*, ready:*, later:* (zsets), scheduled, paused (sets), state, count (hashes), wake:*
-- (lists).

local function ring(queue, tasks) bells[queue] = (bells[queue] or 0) + tasks end

-- Keys that are needed again and again: queue -> priority -> key.
local ready_keys = {}

local function ready_key(priority, queue)
  local of_queue = ready_keys[queue]
  if not of_queue then of_queue = {} ready_keys[queue] = of_queue end
  local key = of_queue[priority]
  if not key then
    key = 'ready:' .. priority .. ':' .. queue
    of_queue[priority] = key
  end
  return key
end

-- It waits from now on, ready or for its time.
local function line_up(tag, r)
  local queue, priority = r[QUEUE], r[PRIORITY]
  if r[STATE] == 'QUEUED' then
    two(zadd, ready_key(priority, queue), exact(r[DUE]), tag)
    if priority ~= 0 then two(zadd, 'lanes:' .. queue, priority, priority) end
    ring(queue, 1)
  else
    local key = 'later:' .. queue
    -- Somebody must learn that this one is due before what was due next.
    local first = call('ZRANGE', P .. key, 0, 0, 'WITHSCORES')
    if not first[2] or tonumber(first[2]) > r[DUE] then bells[queue] = bells[queue] or 1 end
    two(zadd, key, exact(r[DUE]), tag)
    one(sadd, 'scheduled', queue)
  end
end

-- It waits no longer.
local function step_out(tag, r)
  if r[STATE] == 'QUEUED' then
    one(zrem, ready_key(r[PRIORITY], r[QUEUE]), tag)
  else
    one(zrem, 'later:' .. r[QUEUE], tag)
  end
end

-- The lanes of *queue*, highest priority first.
local function lanes(queue)
  local all, n, passed = {}, 0, false
  for _, priority in ipairs(call('ZREVRANGE', P .. 'lanes:' .. queue, 0, -1)) do
    if not passed and tonumber(priority) < 0 then
      n, passed = n + 1, true
      all[n] = ready_key(0, queue)
    end
    n = n + 1
    all[n] = 'ready:' .. priority .. ':' .. queue
  end
  if not passed then all[n + 1] = ready_key(0, queue) end
  return all
end

-- Which of *queues* are open, in their order.
local function open(queues)
  local list = {}
  if #queues > 0 then
    local paused = call('SMISMEMBER', P .. 'paused', unpack(queues))
    for i, queue in ipairs(queues) do
      if paused[i] == 0 then list[#list + 1] = queue end
    end
  end
  return list
end

-- Make what is due in *queue* ready, up to *limit*; how many.
local function promote(queue, limit)
  local due = call('ZRANGEBYSCORE', P .. 'later:' .. queue, '-inf', exact(now), 'LIMIT', 0, limit)
  if #due == 0 then return 0 end
  for i, r in ipairs(records(due)) do
    local tag = due[i]
    one(zrem, 'later:' .. queue, tag)
    if r then
      r[STATE] = 'QUEUED'
      line_up(tag, r)
      store(tag, r)
      move('SCHEDULED', 'QUEUED', queue)
    end
  end
  flush()
  return #due
end
