-- Run what ended without success again.
--
-- args[3]  ids, each once
-- Returns  {now, how many there were}.
--
-- Keys: id, state, result, failure, progress, count (hashes), done:*, lanes:*, ready:* (zsets),
-- wake:* (lists).

begin()
local tags, count = {}, 0
for _, tag in ipairs(values('id', args[3])) do
  if tag then tags[#tags + 1] = tag end
end
for i, r in ipairs(records(tags)) do
  if r and (r[STATE] == 'FAILURE' or r[STATE] == 'REVOKED') then
    local tag = tags[i]
    count = count + 1
    one(zrem, 'done:' .. r[STATE], tag)
    one(hdel, 'progress', tag)
    if r[RESULT] == true then one(hdel, 'result', tag) end
    if r[FAILED] then one(hdel, 'failure', tag) end
    move(r[STATE], 'QUEUED', r[QUEUE])
    r[STATE], r[DUE], r[RETRIES], r[LOSSES], r[SUSPECTED] = 'QUEUED', now, 0, 0, 0
    r[FINISHED], r[RESULT], r[FAILED], r[REASON], r[REVOKE] = false, false, false, 'requeued', 0
    line_up(tag, r)
    store(tag, r)
  end
end
flush()
return pack({now, count})
