-- Settle, then claim, in one step.
--
-- args[3]  settlements, flat
-- args[4]  consumer, args[5] queues, args[6] limit, args[7] base of the tokens, args[8] the process
-- Returns  {now, refused numbers, number of deliveries}, their records, bodies and tags.
--
-- Keys: those of settle.lua and claim.lua, and claimant:* (hashes).

begin()
local refused = #args[3] > 0 and settle(args[3]) or {}
local limit = args[6]
if limit > 0 and not may_claim(args[4], args[8]) then limit = 0 end
local count, held, bodies, tags = claim(args[4], args[5], limit, args[7])
return {pack({now, refused, count}), held, bodies, tags}
