-- Keep what a running task says of itself.
--
-- args[3]  id, args[4] token, args[5] "progress" or "saved"; ARGV[2] what
-- Returns  {now, whether that token holds the task}.
--
-- Keys: id, state, progress, saved (hashes).

local tag = call('HGET', P .. 'id', args[3])
local blob = tag and call('HGET', P .. 'state', tag)
if not blob then return pack({now, false}) end
local r = record(blob)
if r[STATE] ~= 'RUNNING' or r[TOKEN] ~= args[4] then return pack({now, false}) end
begin()
call('HSET', P .. args[5], tag, ARGV[2])
return pack({now, true})
