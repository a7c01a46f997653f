-- Lock all of these wallets that can be had, and queue for the others.
-- ARGV: token, owner, milliseconds of the lease and of a place in a queue, and the wallets' ids in one string.
-- Returns the positions (from 1) of those that could not be had.
local token, owner, lease, reserve, ids = unpack(ARGV)
--{keys}
local missed = {}
for i = 1, most do
  local holder, queue = values[i], values[most + i]
  if (holder and string.sub(holder, 1, #owner) ~= owner) or (queue and first(queue) ~= owner) then
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
