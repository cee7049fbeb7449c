-- Take up to *limit* tasks from *queues*, for *consumer*.
--
-- Keys: paused, held:*, holders (sets), later:*, lanes:*, ready:*, lease (zsets), state, body,
-- count (hashes), wake:* (lists).

local DUE_AT_ONCE = 1000

local function claim(consumer, queues, limit, base)
  local tags = {}
  if limit > 0 then
    for _, queue in ipairs(open(queues)) do
      if #tags == limit then break end
      promote(queue, DUE_AT_ONCE)
      for _, lane in ipairs(lanes(queue)) do
        local asked = limit - #tags
        if asked == 0 then break end
        local popped = call('ZPOPMIN', P .. lane, asked)
        for i = 1, #popped, 2 do tags[#tags + 1] = popped[i] end
        if #popped < asked * 2 and lane ~= ready_key(0, queue) then
          call('ZREM', P .. 'lanes:' .. queue, string.match(lane, '^ready:(-?%d+):'))
        end
      end
    end
  end
  return hand_out(tags, consumer, base)
end
