-- Settle, then claim, in one step.
--
-- args[3]  settlements, flat
-- args[4]  consumer, args[5] queues, args[6] limit, args[7] base of the tokens
-- Returns  {now, refused numbers, number of deliveries}, their records, bodies and tags.
--
-- Keys: those of settle.lua and claim.lua.

begin()
local refused = #args[3] > 0 and settle(args[3]) or {}
local count, held, bodies, tags = claim(args[4], args[5], args[6], args[7])
return {pack({now, refused, count}), held, bodies, tags}
