"""What the scripts of all limits do about the window in which a key counts."""

# An expiry is a moment of Redis's clock: where that was set back, it lies further ahead than a window is long.
WINDOWS = """
local function forget_if_it_outlasts(key, window_ms)
    if redis.call('PTTL', key) > tonumber(window_ms) then redis.call('DEL', key) end
end
local function ms_left(key, window_ms)
    if redis.call('PTTL', key) < 0 then redis.call('PEXPIRE', key, window_ms) end
    return redis.call('PTTL', key)
end
"""
"""
Lua, to begin a script with. `forget_if_it_outlasts` drops a key of before the clock was set back; `ms_left` begins the
window with the first that is counted, and tells what is left of it. Keys without an expiry get one.
"""
