-- Settle, then claim those of the named tasks that may run.
--
-- args[3]  settlements, flat
-- args[4]  consumer, args[5] queues, args[6] base of the tokens, args[7] ids, each once
-- args[8]  the process
-- Returns  {now, refused numbers, number of deliveries, early (id, due), paused, unknown}, their
--          records, bodies and tags.
--
-- Keys: those of settle.lua and claim.lua, and claimant:* (hashes).

begin()
local refused = #args[3] > 0 and settle(args[3]) or {}
local wanted, is_open = {}, {}
for _, queue in ipairs(args[5]) do wanted[queue] = true end
for _, queue in ipairs(open(args[5])) do is_open[queue] = true end
local ids = may_claim(args[4], args[8]) and args[7] or {}
local found, tags, early, paused, unknown, taken = values('id', ids), {}, {}, {}, {}, {}
for i, id in ipairs(ids) do
  if found[i] then tags[#tags + 1] = found[i] else unknown[#unknown + 1] = id end
end
for i, r in ipairs(records(tags)) do
  local waits = r and (r[STATE] == 'QUEUED' or r[STATE] == 'SCHEDULED')
  if waits and wanted[r[QUEUE]] then
    if r[STATE] == 'SCHEDULED' and r[DUE] > now then
      early[#early + 1] = r[ID]
      early[#early + 1] = r[DUE]
    elseif not is_open[r[QUEUE]] then
      paused[#paused + 1] = r[ID]
    else
      step_out(tags[i], r)
      taken[#taken + 1] = tags[i]
    end
  end
end
local count, held, bodies, its_tags = hand_out(taken, args[4], args[6])
return {pack({now, refused, count, early, paused, unknown}), held, bodies, its_tags}
