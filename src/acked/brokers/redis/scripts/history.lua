-- Every attempt of one task, and its checkpoint.
--
-- args[3]  id
-- Returns  {now}, and where it is known: its record, the entries of its history in order,
--          its checkpoint.
--
-- Keys: id, state, attempt, saved (hashes).

local tag = call('HGET', P .. 'id', args[3])
local blob = tag and call('HGET', P .. 'state', tag)
if not blob then return {pack({now})} end
local r = record(blob)
local names = {}
for n = 1, r[ENTRIES] do names[n] = tag .. ':' .. n end
return {pack({now}), blob, values('attempt', names), call('HGET', P .. 'saved', tag)}
