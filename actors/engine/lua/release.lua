-- Release those of these wallets that are still held by this token, and wake whoever is next.
-- ARGV: token, the channels' prefix, and the wallets' ids in one string.
local token, channel, ids = unpack(ARGV)
--{keys}
local free, woken = {}, {}
for i = 1, most do
  if values[i] == token then
    free[#free + 1] = keys[i]
    if values[most + i] then
      local waiter = first(values[most + i])
      local id = string.sub(keys[i], #KEYS[1] + 1)
      woken[waiter] = woken[waiter] and woken[waiter] .. ',' .. id or id
    end
  end
end
if #free > 0 then redis.call('DEL', unpack(free)) end
for waiter, freed in pairs(woken) do redis.call('PUBLISH', channel .. waiter, freed) end
return 0
