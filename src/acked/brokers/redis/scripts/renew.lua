-- A heartbeat: the lease anew, and what of the worker's own it must kill.
--
-- args[3]  worker, args[4] lease in seconds; ARGV[2] the beat, JSON
-- Returns  {now, id and token of each, flat}.
--
-- Keys: lease (zset), beat, state (hashes), kill (set).

begin()
local worker, lease = args[3], args[4]
call('ZADD', P .. 'lease', steady + lease, worker)
call('HSET', P .. 'beat', worker, pack(lease, ARGV[2]))
local orders = {}
local doomed = call('SMEMBERS', P .. 'kill')
if #doomed > 0 then
  table.sort(doomed)
  for _, r in ipairs(records(doomed)) do
    if r and worker_of(r[CONSUMER]) == worker then
      orders[#orders + 1] = r[ID]
      orders[#orders + 1] = r[TOKEN]
    end
  end
end
return pack({now, orders})
