-- Lock all of these wallets that can be had, and queue for the others.
-- ARGV: token, owner, milliseconds of the lease and of a place in a queue, and the wallets' ids in one string.
-- Returns the positions (from 1) of those that could not be had.
local token, owner, lease, reserve, ids = unpack(ARGV)
--{keys}
-- An expiry is a moment of this machine's clock. Where that was set back, it lies as far ahead as the clock has gone back;
-- so none is believed that lies further ahead than it may. Only what stands in the way is looked at. A lock says itself for
-- how long it was taken: processes may be configured differently.
local function believed(key, longest)
  local left = redis.call('PTTL', key)
  return left >= 0 and left <= tonumber(longest)
end
local missed = {}
for i = 1, most do
  local held = values[i] and string.sub(values[i], 1, #owner) ~= owner and believed(keys[i], string.match(values[i], '/(%d+)$') or lease)
  local queue = values[most + i]
  if queue and first(queue) ~= owner and not believed(keys[most + i], reserve) then
    redis.call('DEL', keys[most + i])
    queue = nil
  end
  if held or (queue and first(queue) ~= owner) then
    missed[#missed + 1] = i
    if not queue then
      redis.call('SET', keys[most + i], owner, 'PX', reserve)
    elseif not string.find(queue, owner, 1, true) then
      redis.call('SET', keys[most + i], queue .. ',' .. owner, 'KEEPTTL')
    end
  else
    redis.call('SET', keys[i], token, 'PX', lease)
    if queue == owner then
      redis.call('DEL', keys[most + i])
    elseif queue then
      redis.call('SET', keys[most + i], string.sub(queue, #owner + 2), 'PX', reserve)
    end
  end
end
return missed
