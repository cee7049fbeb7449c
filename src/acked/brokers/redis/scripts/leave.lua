-- A worker ends in good order.
--
-- args[3]  worker
-- Returns  {now}.
--
-- Keys: lease (zset), beat, claimant:<worker> (hashes).

call('ZREM', P .. 'lease', args[3])
call('HDEL', P .. 'beat', args[3])
call('DEL', P .. 'claimant:' .. args[3])
return pack({now})
