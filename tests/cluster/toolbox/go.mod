module toolbox

go 1.24
