-- Revoke for good: what waits ends at once, what runs is marked.
--
-- args[3]  ids, each once, args[4] 1, or 2 to terminate
-- Returns  {now, how many were unfinished}.
--
-- Keys: id, state, count (hashes), ready:*, later:*, done:REVOKED (zsets), kill (set).

begin()
local tags, count, wish = {}, 0, args[4]
for _, tag in ipairs(values('id', args[3])) do
  if tag then tags[#tags + 1] = tag end
end
for i, r in ipairs(records(tags)) do
  local tag = tags[i]
  if r and not r[FINISHED] then
    count = count + 1
    if r[STATE] == 'RUNNING' then
      r[REVOKE] = max(r[REVOKE], wish)
      if r[REVOKE] == 2 then one(sadd, 'kill', tag) end
    else
      step_out(tag, r)
      move(r[STATE], 'REVOKED', r[QUEUE])
      r[STATE], r[FINISHED], r[REASON], r[REVOKE] = 'REVOKED', now, 'revoked', max(r[REVOKE], 1)
      two(zadd, 'done:REVOKED', micros(now), tag)
    end
    store(tag, r)
  end
end
flush()
return pack({now, count})
